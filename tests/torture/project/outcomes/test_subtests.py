"""subTest: failing, erroring, skipped, nested, mixed, with odd parameters."""

import unittest

from django.test import SimpleTestCase, TestCase

from catalog.models import Genre


class SubTests(SimpleTestCase):
    def test_all_pass(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertLess(number, 3)

    def test_some_fail(self):
        for number in range(4):
            with self.subTest(i=number):
                self.assertEqual(number % 2, 0)

    def test_one_errors(self):
        for number in range(3):
            with self.subTest("division", number=number):
                1 / (number - 1)

    def test_failure_and_error(self):
        with self.subTest("a"):
            self.fail("fails")
        with self.subTest("b"):
            raise ValueError("errs")

    def test_fails_inside_and_outside(self):
        with self.subTest(where="inside"):
            self.fail("inside")
        self.fail("outside")

    def test_fails_inside_and_errs_outside(self):
        with self.subTest(where="inside"):
            self.fail("inside")
        raise ValueError("outside")

    def test_one_skipped_and_nothing_else(self):
        with self.subTest("skipped"):
            self.skipTest("this one")

    def test_one_skipped_others_pass(self):
        for number in range(3):
            with self.subTest(number=number):
                if number == 1:
                    self.skipTest("this one")

    def test_one_skipped_one_fails(self):
        with self.subTest("skipped"):
            self.skipTest("this one")
        with self.subTest("fails"):
            self.fail("that one")

    def test_nested(self):
        with self.subTest("outer", a=1), self.subTest("inner", b=2):
            self.fail("nested")

    def test_equal_descriptions(self):
        for _ in range(3):
            with self.subTest(same="same"):
                self.fail("again")

    def test_odd_parameters(self):
        for value in ["\x00", "\x1b[31mred", "\ud800", "<&>\"']]>", "ü" * 300, b"\xff", None, {"a": [1]}]:
            with self.subTest("odd \x00\x1b[0m\ud800", value=value):
                self.fail("odd \x00 \ud800")

    def test_no_parameters(self):
        with self.subTest():
            self.fail("bare")

    def test_many(self):
        for number in range(500):
            with self.subTest(number=number):
                self.assertNotEqual(number % 100, 99)

    @unittest.expectedFailure
    def test_expected_failure_inside(self):
        with self.subTest("expected"):
            self.fail("expected")

    @unittest.expectedFailure
    def test_expected_failure_that_passes(self):
        with self.subTest("fine"):
            pass


class DatabaseSubTests(TestCase):
    def test_rows_last_over_sub_tests(self):
        for number in range(3):
            with self.subTest(number=number):
                Genre.objects.create(name=f"sub {number}")
                self.assertEqual(Genre.objects.count(), 4 + number)


class PlainSubTests(unittest.TestCase):
    def test_plain(self):
        with self.subTest(plain=True):
            self.fail("plain")


class NamedLikeASubTest(unittest.TestCase):
    """unittest's subtests have an attribute `test_case`; so has this test."""

    def test_case(self):
        pass

    def test_fails_beside_it(self):
        self.fail("beside test_case")
