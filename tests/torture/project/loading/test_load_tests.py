"""load_tests: parametrised instances, functions, custom suites, classes that no name leads to."""

import unittest

from django.test import SimpleTestCase, TestCase

from catalog.models import Genre


class Parametrised(SimpleTestCase):
    """Instances differ by value and id but are equal to unittest (type and method), so Django keeps the first only."""

    def __init__(self, method="test_value", value=0):
        super().__init__(method)
        self.value = value

    def id(self):
        return f"{super().id()}[{self.value}]"

    def test_value(self):
        self.assertEqual(self.value, 1)


class Distinct(SimpleTestCase):
    """Instances know that they differ; all run, one fails."""

    def __init__(self, method="test_value", value=0):
        super().__init__(method)
        self.value = value

    def __eq__(self, other):
        return super().__eq__(other) and self.value == other.value

    def __hash__(self):
        return hash((type(self), self.value))

    def id(self):
        return f"{super().id()}[{self.value}]"

    def test_value(self):
        self.assertNotEqual(self.value, 2)


class Ordinary(TestCase):
    def test_found_by_the_loader(self):
        self.assertEqual(Genre.objects.count(), 3)


class LeftOut(SimpleTestCase):
    def test_is_left_out_by_load_tests(self):
        self.fail("it ran")


class LoudSuite(unittest.TestSuite):
    """Django flattens suites, so this method is never called."""

    def run(self, result, debug=False):
        raise RuntimeError("a custom suite's run() was called")


def make_class(number):
    class Made(SimpleTestCase):
        def test_number(self):
            self.assertLess(number, 2)

    Made.__qualname__ = f"Made{number}"
    return Made


def a_function():
    assert 1 + 1 == 2


def a_failing_function():
    raise AssertionError("function test")


def load_tests(loader, tests, pattern):
    suite = LoudSuite()
    suite.addTests(Parametrised(value=value) for value in (1, 2, 3))
    suite.addTests(Distinct(value=value) for value in (1, 2, 3))
    suite.addTests(loader.loadTestsFromTestCase(Ordinary))
    suite.addTests(loader.loadTestsFromTestCase(make_class(number)) for number in (1, 2))
    suite.addTest(unittest.FunctionTestCase(a_function, description="described"))
    suite.addTest(unittest.FunctionTestCase(a_failing_function, setUp=lambda: None))
    return unittest.TestSuite([unittest.TestSuite([suite])])
