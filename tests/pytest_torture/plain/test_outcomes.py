import sys
import unittest
import warnings

import pytest


def test_passes():
    print("printed")
    print("to stderr", file=sys.stderr)


def test_fails():
    print("before it fails")
    left, right = [1, 2, 3], [1, 2, 4]
    assert left == right


def test_raises():
    def inner():
        raise ValueError("inner")

    try:
        inner()
    except ValueError as error:
        raise RuntimeError("outer") from error


def test_group():
    raise ExceptionGroup("several", [ValueError(1), KeyError("two")])


def test_skips():
    pytest.skip("while it runs")


@pytest.mark.skip(reason="by its mark")
def test_marked(): ...


@pytest.mark.skipif("sys.version_info > (3,)", reason="by a condition")
def test_condition(): ...


@pytest.mark.xfail(reason="known", raises=ZeroDivisionError)
def test_xfails():
    1 / 0


@pytest.mark.xfail(reason="known", raises=KeyError)
def test_xfails_otherwise():
    1 / 0


@pytest.mark.xfail
def test_xpasses(): ...


@pytest.mark.xfail(strict=True, reason="never")
def test_xpasses_strictly(): ...


def test_xfails_by_itself():
    pytest.xfail("said so")


@pytest.fixture
def broken():
    raise LookupError("no set-up")


def test_broken_set_up(broken): ...


@pytest.fixture
def leaking():
    yield
    raise LookupError("no tear-down")


def test_broken_tear_down(leaking): ...


def test_fails_and_broken_tear_down(leaking):
    raise AssertionError


def test_skips_and_broken_tear_down(leaking):
    pytest.skip("first")


def test_warns():
    warnings.warn("deprecated thing", DeprecationWarning)
    warnings.warn("a thing")


def test_logs(caplog):
    import logging

    logging.getLogger("shop").warning("logged %s", "once")
    raise AssertionError("to show the log")


def test_subtests(subtests):
    for number in range(4):
        with subtests.test("number", number=number):
            print("in", number)
            assert number % 2 == 0


def test_subtests_that_skip(subtests):
    with subtests.test(n=1):
        pytest.skip("only this")
    with subtests.test(n=2):
        pass


class OldTests(unittest.TestCase):
    def setUp(self):
        self.addCleanup(print, "cleaned up")

    def test_equal(self):
        self.assertEqual(1, 2)

    @unittest.expectedFailure
    def test_expected(self):
        self.fail("as expected")

    @unittest.expectedFailure
    def test_unexpected(self): ...

    @unittest.skip("not now")
    def test_skipped(self): ...


class BrokenTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise RuntimeError("no class")

    def test_one(self): ...

    def test_two(self): ...


class SkippedTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("the class")

    def test_one(self): ...
