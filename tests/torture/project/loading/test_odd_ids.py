"""Ids that cannot be imported, typed or trusted."""

import unittest

from django.test import SimpleTestCase, TestCase


class OddNames(SimpleTestCase):
    def test_größe_und_wörter(self):
        pass

    def test_日本語(self):
        self.fail("日本語")


def add(cls, name, fails=False):
    def method(self):
        if fails:
            self.fail(name)

    setattr(cls, name, method)


for _name in [
    "test with spaces",
    "test_param[a::b/c-1.5]",
    "test_😀",
    "test_<xml>&\"quotes'",
    "test_tab\tand\nnewline",
    "test_nul_\x00_esc_\x1b[31m",
    "test_" + "long" * 500,
    "test_...dots..",
    "test_%s_{0}_$HOME_`id`",
    "test_;rm -rf",
    "test_a,b",
    "test_--flag",
]:
    add(OddNames, _name)
add(OddNames, "test_failing with spaces", fails=True)


class OwnId(TestCase):
    def id(self):
        return "an id of its own / 1"

    def test_a(self):
        pass


class OwnText(unittest.TestCase):
    def __str__(self):
        return "text of its own\n"

    def shortDescription(self):
        return "a description\nof two lines"

    def test_a(self):
        self.fail("described")


class RunTest(SimpleTestCase):
    def runTest(self):
        pass


class Grosse(SimpleTestCase):
    def test_a(self):
        pass


Grosse.__name__ = Grosse.__qualname__ = "Größe"


class Outer:
    class Inner(SimpleTestCase):
        def test_a(self):
            pass


Nested = Outer.Inner


def _make(base):
    """A class as Selenium's metaclass makes them: put into the module's namespace under a new name."""

    class Browser(base):
        def test_browser(self):
            pass

    Browser.__name__ = Browser.__qualname__ = "FirefoxOddNames"
    return Browser


FirefoxOddNames = _make(SimpleTestCase)


class ElsewhereModule(SimpleTestCase):
    """Says that it lives in a module which does not exist."""

    def test_a(self):
        pass


ElsewhereModule.__module__ = "no.such.module"


class Documented(SimpleTestCase):
    def test_with_docstring(self):
        """First line, shown in place of the name.

        More.
        """
        self.fail("documented")
