"""A stack."""


class Stack:
    """Last in, first out."""

    def __init__(self):
        self._items = []

    def __len__(self):
        return len(self._items)

    def push(self, item):
        """Put an item on top."""
        self._items.append(item)

    def pop(self):
        """Take the item on top; IndexError when there is none."""
        return self._items.pop()

    def peek(self):
        """Return the item on top; IndexError when there is none."""
        return self._items[-1]
