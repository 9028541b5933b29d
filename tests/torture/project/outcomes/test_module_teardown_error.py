"""tearDownModule and module cleanups fail; the tests themselves pass."""

import unittest

from django.test import SimpleTestCase, TestCase


def fail():
    raise ValueError("in a module cleanup")


def setUpModule():
    unittest.addModuleCleanup(fail)
    unittest.addModuleCleanup(fail)


def tearDownModule():
    raise ValueError("in tearDownModule")


class A(TestCase):
    def test_a(self):
        pass


class B(SimpleTestCase):
    def test_a(self):
        pass
