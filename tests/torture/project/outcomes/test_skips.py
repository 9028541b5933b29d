"""Skips at every level inside a module (setUpModule and import have modules of their own)."""

import unittest

from django.test import SimpleTestCase, TestCase


class MethodSkips(SimpleTestCase):
    @unittest.skip("by decorator")
    def test_decorator(self):
        self.fail("it ran")

    @unittest.skipIf(True, "by condition")
    def test_condition(self):
        self.fail("it ran")

    @unittest.skipUnless(True, "condition holds")
    def test_condition_that_holds(self):
        pass

    def test_skip_test(self):
        self.skipTest("in the test")

    def test_raise(self):
        raise unittest.SkipTest("raised")

    def test_skip_without_a_reason(self):
        raise unittest.SkipTest

    def test_subclass_of_skip_test(self):
        class Later(unittest.SkipTest):
            pass

        raise Later("a subclass")

    def test_odd_reason(self):
        self.skipTest("control \x07, NUL \x00, ANSI \x1b[31m, surrogate \ud800, lines\r\nand <xml> ]]> &")

    @unittest.skip("async too")
    async def test_async(self):
        self.fail("it ran")


class SetUpSkips(TestCase):
    def setUp(self):
        self.skipTest("in setUp")

    def test_a(self):
        self.fail("it ran")

    def test_b(self):
        self.fail("it ran")


class TearDownSkips(SimpleTestCase):
    def tearDown(self):
        self.skipTest("in tearDown")

    def test_passing(self):
        """Skipped: the only event is the skip."""

    def test_failing(self):
        self.fail("a failure and a skip are a failure")


class CleanupSkips(SimpleTestCase):
    def test_cleanup_skips(self):
        self.addCleanup(self.skipTest, "in a cleanup")


@unittest.skip("the whole class")
class ClassSkip(TestCase):
    @classmethod
    def setUpClass(cls):
        raise AssertionError("setUpClass of a skipped class ran")

    def test_a(self):
        self.fail("it ran")

    @unittest.expectedFailure
    def test_b(self):
        self.fail("it ran")


@unittest.skip("a plain class")
class PlainClassSkip(unittest.TestCase):
    def test_a(self):
        self.fail("it ran")


class InheritedSkip(ClassSkip):
    def test_c(self):
        self.fail("it ran")


class SetUpClassSkip(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("in setUpClass")

    def test_a(self):
        self.fail("it ran")

    def test_b(self):
        self.fail("it ran")


class SetUpTestDataSkip(TestCase):
    @classmethod
    def setUpTestData(cls):
        raise unittest.SkipTest("in setUpTestData")

    def test_a(self):
        self.fail("it ran")


class TearDownClassSkip(SimpleTestCase):
    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        raise unittest.SkipTest("in tearDownClass")

    def test_a(self):
        pass


class AfterTheSkips(SimpleTestCase):
    def test_runs(self):
        pass
