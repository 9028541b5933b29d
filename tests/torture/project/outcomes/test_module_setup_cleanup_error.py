"""setUpModule and a module cleanup fail: two events of one name."""

import unittest

from django.test import SimpleTestCase


def fail():
    raise ValueError("in a module cleanup")


def setUpModule():
    unittest.addModuleCleanup(fail)
    raise ValueError("in setUpModule")


class A(SimpleTestCase):
    def test_a(self):
        self.fail("it ran")
