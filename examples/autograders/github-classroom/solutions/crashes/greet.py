import os
import sys


def greeting(name: str) -> str:
    if not name:
        os.abort()
    return f"Hello, {name}!"


if __name__ == "__main__":
    print(greeting(sys.stdin.readline().strip()))
