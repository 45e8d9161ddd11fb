"""Reads a name, and greets whoever has it."""


def greeting(name: str) -> str:
    raise NotImplementedError


if __name__ == "__main__":
    print(greeting(input()))
