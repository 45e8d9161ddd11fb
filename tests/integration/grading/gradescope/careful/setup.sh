#!/usr/bin/env bash
useradd -m -s /bin/bash student || adduser --disabled-password --gecos "" student
chown -R root:root /autograder/source
chmod -R go-rwx /autograder/source
chmod 700 /autograder/results
