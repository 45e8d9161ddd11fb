#!/usr/bin/env bash
apt-get -y install openjdk-17-jdk
install -m 755 /autograder/source/bin/javac /usr/local/bin/javac
install -m 755 /autograder/source/bin/java /usr/local/bin/java
