"""When a year is a leap year."""

import os
import sys

sys.path.insert(0, os.getcwd())

from leap import is_leap


def test_fourth_years():
    """Every fourth."""
    assert is_leap(2024)
    assert not is_leap(2023)


def test_centuries():
    """No century, but every fourth of them."""
    assert not is_leap(1900)
    assert is_leap(2000)
