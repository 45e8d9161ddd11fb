#!/bin/bash
set -e
[ -z "${LANG+set}" ] && [ "$1" = --quiet ]
export PYTHONPATH=/grade/serverFilesCourse/grader:/grade/student
exec python3 -B /grade/tests/test.py
