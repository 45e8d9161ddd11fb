"""Accepts any two of the numbers that have the sum: `validate.py INPUT ANSWER FEEDBACK <OUTPUT`."""

import collections
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    total, _ = map(int, file.readline().split())
    numbers = collections.Counter(map(int, file.readline().split()))

try:
    one, other = map(int, sys.stdin.read().split())
except ValueError:
    with open(f"{sys.argv[3]}/teammessage.txt", "w", encoding="utf-8") as file:
        file.write("two numbers are wanted")
    sys.exit(43)
right = one + other == total and not collections.Counter([one, other]) - numbers
sys.exit(42 if right else 43)
