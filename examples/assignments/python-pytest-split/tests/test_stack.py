"""What a stack must do."""

import pytest
from remote import Stack


@pytest.fixture
def stack():
    """A new stack of the student's, elsewhere."""
    made = Stack()
    yield made
    made.close()


@pytest.mark.points(2)
def test_new(stack):
    """a new stack is empty"""
    assert len(stack) == 0


@pytest.mark.points(3)
def test_order(stack):
    """the last one in is the first one out"""
    for item in (1, 2, 3):
        stack.push(item)
    assert [stack.pop(), stack.pop(), stack.pop()] == [3, 2, 1]


@pytest.mark.points(2)
def test_peek(stack):
    """peek leaves the stack as it is"""
    stack.push("a")
    assert stack.peek() == "a"
    assert len(stack) == 1


@pytest.mark.points(3)
def test_empty(stack):
    """an empty stack raises IndexError"""
    with pytest.raises(IndexError):
        stack.pop()
    with pytest.raises(IndexError):
        stack.peek()
