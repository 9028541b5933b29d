"""Matches the pattern, but the package's load_tests does not name it."""

from django.test import SimpleTestCase


class NotDiscovered(SimpleTestCase):
    def test_a(self):
        self.fail("it ran")
