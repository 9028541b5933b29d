"""setUpModule skips."""

import unittest

from django.test import SimpleTestCase, TestCase


def setUpModule():
    raise unittest.SkipTest("in setUpModule")


class A(TestCase):
    def test_a(self):
        self.fail("it ran")


class B(SimpleTestCase):
    def test_a(self):
        self.fail("it ran")
