"""What `except Exception` does not catch."""

import sys
import unittest

from django.test import SimpleTestCase, TestCase


class Own(BaseException):
    pass


class InTests(SimpleTestCase):
    def test_keyboard_interrupt(self):
        """error: KeyboardInterrupt"""
        raise KeyboardInterrupt

    def test_keyboard_interrupt_with_words(self):
        """error: by the test"""
        raise KeyboardInterrupt("by the test")

    def test_system_exit(self):
        """error: 0"""
        sys.exit(0)

    def test_system_exit_3(self):
        """error: 3"""
        raise SystemExit(3)

    def test_generator_exit(self):
        """error: GeneratorExit"""
        raise GeneratorExit

    def test_of_its_own(self):
        """error: own"""
        raise Own("own")

    def test_in_a_sub_test(self):
        """error: KeyboardInterrupt"""
        with self.subTest(number=1):
            raise KeyboardInterrupt

    def test_in_a_cleanup(self):
        """error: KeyboardInterrupt"""
        self.addCleanup(self.interrupt)

    def interrupt(self):
        raise KeyboardInterrupt

    def test_between(self):
        """passed"""

    @unittest.expectedFailure
    def test_expected(self):
        """error: KeyboardInterrupt"""
        raise KeyboardInterrupt

    def test_zz_last_of_its_class(self):
        """error: KeyboardInterrupt"""
        raise KeyboardInterrupt


class InSetUpAndTearDown(TestCase):
    def setUp(self):
        if "set_up" in self._testMethodName:
            raise KeyboardInterrupt("in setUp")

    def tearDown(self):
        if "tear_down" in self._testMethodName:
            raise KeyboardInterrupt("in tearDown")

    def test_1_set_up(self):
        """error: in setUp"""

    def test_2_tear_down(self):
        """error: in tearDown"""

    def test_3_neither(self):
        """passed"""


class ExitsInSetUpClass(SimpleTestCase):
    """setUpClass"""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        sys.exit(0)

    def test_one(self):
        """not_run"""

    def test_two(self):
        """not_run"""


class InterruptsInSetUpClass(SimpleTestCase):
    """setUpClass"""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        raise KeyboardInterrupt

    def test_one(self):
        """not_run"""


class ExitsInTearDownClass(SimpleTestCase):
    """tearDownClass"""

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        sys.exit(0)

    def test_one(self):
        """passed"""


class InterruptsInTearDownClass(SimpleTestCase):
    """tearDownClass"""

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        raise KeyboardInterrupt

    def test_one(self):
        """passed"""


class OneMore(SimpleTestCase):
    def test_passes(self):
        """passed"""
