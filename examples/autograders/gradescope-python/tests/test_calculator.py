import unittest

from calculator import Calculator


def weight(points):
    def mark(method):
        method.weight = points
        return method

    return mark


def visibility(value):
    def mark(method):
        method.visibility = value
        return method

    return mark


class TestCalculator(unittest.TestCase):
    def setUp(self):
        self.calculator = Calculator()

    @weight(2)
    def test_add(self):
        """Adds two numbers"""
        self.assertEqual(self.calculator.add(2, 3), 5)

    @weight(2)
    def test_subtract(self):
        """Subtracts one from the other"""
        self.assertEqual(self.calculator.subtract(2, 3), -1)

    @weight(3)
    @visibility("after_due_date")
    def test_divide(self):
        """Divides, and refuses to divide by zero"""
        self.assertEqual(self.calculator.divide(1, 4), 0.25)
        with self.assertRaises(ValueError):
            self.calculator.divide(1, 0)
