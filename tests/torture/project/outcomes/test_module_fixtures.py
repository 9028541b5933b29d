"""A module fixture that works, and whose state its classes need; tearDownModule takes it away again."""

import unittest

from django.test import SimpleTestCase, TestCase

STATE = {}


def setUpModule():
    STATE["open"] = True
    unittest.addModuleCleanup(STATE.pop, "cleanup", None)


def tearDownModule():
    del STATE["open"]


class A(TestCase):
    def test_a(self):
        self.assertEqual(STATE, {"open": True})


class B(SimpleTestCase):
    def test_a(self):
        self.assertEqual(STATE, {"open": True})

    def test_b(self):
        self.assertEqual(STATE, {"open": True})


class C(unittest.TestCase):
    def test_a(self):
        self.assertEqual(STATE, {"open": True})
