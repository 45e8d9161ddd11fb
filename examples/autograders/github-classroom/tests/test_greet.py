import unittest

from greet import greeting


class GreetTest(unittest.TestCase):
    def test_a_name(self) -> None:
        self.assertEqual(greeting("Bo"), "Hello, Bo!")

    def test_no_name(self) -> None:
        self.assertEqual(greeting(""), "Hello, World!")
