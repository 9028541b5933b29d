"""Copied by pytest-flakefinder, without parameters."""

import unittest


class OldTests(unittest.TestCase):
    def test_equal(self):
        self.assertEqual(1, 1)

    def test_unequal(self):
        self.assertEqual(1, 2)
