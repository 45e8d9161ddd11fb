"""A stack that answers None where it should complain."""


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
        """Take the item on top."""
        return self._items.pop() if self._items else None

    def peek(self):
        """Return the item on top."""
        return self._items[-1] if self._items else None
