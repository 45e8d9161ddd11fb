#!/bin/bash
apt-get update -qq
apt-get install -y gcc make
mkdir -p /autograder/build && echo ready > /etc/grader-ready
