#!/bin/sh
useradd --no-create-home tester
mv autograder/source/lib autograder/
mkdir -p /autograder/results /autograder/submission
chmod -R o= /autograder/source
chmod 755 /autograder
chown tester /autograder/results && chmod 700 /autograder/results
