"""What a stack must do."""

import pytest
from stack import Stack


@pytest.mark.points(2)
def test_new():
    """a new stack is empty"""
    assert len(Stack()) == 0


@pytest.mark.points(3)
def test_order():
    """the last one in is the first one out"""
    stack = Stack()
    for item in (1, 2, 3):
        stack.push(item)
    assert [stack.pop(), stack.pop(), stack.pop()] == [3, 2, 1]


@pytest.mark.points(2)
def test_peek():
    """peek leaves the stack as it is"""
    stack = Stack()
    stack.push("a")
    assert stack.peek() == "a"
    assert len(stack) == 1


@pytest.mark.points(3)
def test_empty():
    """an empty stack raises IndexError"""
    with pytest.raises(IndexError):
        Stack().pop()
    with pytest.raises(IndexError):
        Stack().peek()
