import sys


def greeting(name: str) -> str:
    return f"Hello, {name or 'World'}!"


if __name__ == "__main__":
    print(greeting(sys.stdin.readline().strip()))
