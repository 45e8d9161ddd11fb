#!/usr/bin/env bash
set -e
mkdir -p /opt/tool
cp /autograder/source/words.txt /opt/tool/words
