"""Whether two numbers of the input were printed that have the wanted sum.

Called with the files of input, printed output and expected output. Exit code 0: right; 1: wrong,
with the message that is printed; 7: the part of the points that is printed first.
"""

import sys

LIMIT = 100


def main(given, printed, _expected):
    """Judge one answer."""
    with open(given) as file:
        wanted, *numbers = [int(word) for word in file.read().split()]
    with open(printed, errors="replace") as file:
        words = file.read(LIMIT).split()
    try:
        one, other = (int(word) for word in words)
    except ValueError:
        sys.stdout.write("print two whole numbers")
        return 1
    if one + other == wanted and one in numbers and other in numbers:
        return 0
    sys.stdout.write(f"{one} and {other} are not two of them with the sum {wanted}")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
