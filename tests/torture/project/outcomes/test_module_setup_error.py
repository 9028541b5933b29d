"""setUpModule fails: none of the tests below is reported, in whichever bins they are."""

import unittest

from django.test import SimpleTestCase, TestCase


def setUpModule():
    unittest.addModuleCleanup(print, "cleanup after a failed setUpModule")
    raise ValueError("in setUpModule")


class A(TestCase):
    def test_a(self):
        self.fail("it ran")

    def test_b(self):
        self.fail("it ran")


class B(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        raise ValueError("not reached")

    def test_a(self):
        self.fail("it ran")


class C(unittest.TestCase):
    def test_a(self):
        self.fail("it ran")
