"""Thinks of a number from 1 to 1000, and answers at most ten guesses."""

import sys

with open(sys.argv[1]) as file:
    secret = int(file.read())


def end(message: str, code: int) -> None:
    with open(f"{sys.argv[3]}teammessage.txt", "w") as out:
        out.write(message)
    sys.exit(code)


for guess in range(1, 11):
    line = sys.stdin.readline(100)
    try:
        told = int(line)
    except ValueError:
        end(f"guess {guess} is no number: {line!r}", 43)
    if told == secret:
        print("correct", flush=True)
        end("", 42)
    print("lower" if told > secret else "higher", flush=True)
end("not found in ten guesses", 43)
