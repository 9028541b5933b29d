"""Expected failures and unexpected successes."""

import unittest

from django.test import SimpleTestCase, TestCase, tag


class Expected(TestCase):
    @unittest.expectedFailure
    def test_fails_as_expected(self):
        self.fail("as expected")

    @unittest.expectedFailure
    def test_errs_as_expected(self):
        raise ValueError("as expected")

    @unittest.expectedFailure
    def test_unexpected_success(self):
        pass

    @unittest.expectedFailure
    def test_skip_beats_expectation(self):
        self.skipTest("not today")

    @unittest.expectedFailure
    async def test_async_fails_as_expected(self):
        self.fail("as expected")

    @unittest.expectedFailure
    def test_failure_in_a_cleanup_is_not_expected(self):
        self.addCleanup(self.fail, "in a cleanup")


class ExpectedInSetUp(SimpleTestCase):
    def setUp(self):
        raise ValueError("in setUp")

    @unittest.expectedFailure
    def test_error_in_set_up(self):
        pass


@tag("no_buffer")
class ExpectedThenTearDownError(SimpleTestCase):
    def _post_teardown(self):
        super()._post_teardown()
        raise ValueError("after an expected failure")

    @unittest.expectedFailure
    def test_expected_failure_and_error(self):
        """Two events, xfailed and error: an error."""
        self.fail("as expected")

    @unittest.expectedFailure
    def test_unexpected_success_and_error(self):
        pass


@unittest.expectedFailure
class ExpectedClass(unittest.TestCase):
    def test_fails(self):
        self.fail("as expected")

    def test_passes(self):
        pass
