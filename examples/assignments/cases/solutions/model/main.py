import sys


def pair(wanted, numbers):
    for one in numbers:
        if wanted - one in numbers:
            return one, wanted - one
    return 0, 0


def main():
    text = sys.stdin.read()
    if sys.argv[1] == "echo":
        sys.stdout.write(text)
        return
    numbers = [int(word) for word in text.split()]
    if sys.argv[1] == "sort":
        print(*sorted(numbers), sep="\n")
    elif sys.argv[1] == "mean":
        print(sum(numbers) / len(numbers))
    else:
        print(*reversed(pair(numbers[0], numbers[1:])))


main()
