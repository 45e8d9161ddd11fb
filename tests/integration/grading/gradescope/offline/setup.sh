#!/bin/bash
set -e
apt-get install -y cowsay-that-is-nowhere
pip3 install -r /autograder/source/requirements.txt
