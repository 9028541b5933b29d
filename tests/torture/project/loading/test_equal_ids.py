"""Tests with equal ids. Django itself refuses to shuffle them, so they carry the tag no_shuffle:
run `--shuffle` with `--exclude-tag no_shuffle`."""

import unittest

from django.test import SimpleTestCase, TestCase, tag


@tag("no_shuffle")
class SameId(SimpleTestCase):
    """Unequal instances with one id; the second fails."""

    def __init__(self, method="test_value", value=0):
        super().__init__(method)
        self.value = value

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)

    def test_value(self):
        self.assertNotEqual(self.value, 2)


@tag("no_shuffle")
class SurrogateId(SimpleTestCase):
    """Its id cannot be encoded as UTF-8, which the shuffler would do."""


setattr(SurrogateId, "test_\ud800", lambda self: None)


def make_twin(fails, base):
    @tag("no_shuffle")
    class Twin(base):
        counter = []

        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cls.counter.append("set up")

        def test_twin(self):
            self.assertEqual(self.counter, ["set up"])
            self.assertFalse(fails)

    return Twin


def load_tests(loader, tests, pattern):
    suite = unittest.TestSuite()
    suite.addTests(SameId(value=value) for value in (1, 2, 3))
    suite.addTests(loader.loadTestsFromTestCase(SurrogateId))
    # Classes of one name, made in a function; in one bin, and in two.
    suite.addTests(loader.loadTestsFromTestCase(make_twin(False, SimpleTestCase)))
    suite.addTests(loader.loadTestsFromTestCase(make_twin(True, SimpleTestCase)))
    suite.addTests(loader.loadTestsFromTestCase(make_twin(False, TestCase)))
    return suite
