"""load_tests itself fails: one error in place of the module's tests."""

from django.test import SimpleTestCase


class Lost(SimpleTestCase):
    def test_is_never_loaded(self):
        self.fail("it ran")


def load_tests(loader, tests, pattern):
    raise ValueError("in load_tests")
