"""Errors outside the test method: _pre_setup and _post_teardown report to the result by themselves.

Under --buffer the stock run stops with an AttributeError at the first of them, hence the tag no_buffer.
"""

from django.test import SimpleTestCase, TestCase, TransactionTestCase, tag

from catalog.models import Genre


@tag("no_buffer")
class PreSetupErrors(SimpleTestCase):
    @classmethod
    def _pre_setup(cls):
        raise ValueError("in _pre_setup")

    def test_never_started_a(self):
        self.fail("it ran")

    def test_never_started_b(self):
        self.fail("it ran")


@tag("no_buffer")
class DatabasePreSetupErrors(TestCase):
    @classmethod
    def _pre_setup(cls):
        raise ValueError("in _pre_setup")

    def test_never_started(self):
        self.fail("it ran")


class TransactionPreSetupErrors(TransactionTestCase):
    @classmethod
    def _pre_setup(cls):
        raise ValueError("in _pre_setup, which setUpClass calls")

    def test_never_started(self):
        self.fail("it ran")


@tag("no_buffer")
class PostTeardownErrors(SimpleTestCase):
    def _post_teardown(self):
        super()._post_teardown()
        raise ValueError("in _post_teardown")

    def test_passes_and_errs(self):
        pass

    def test_fails_and_errs(self):
        self.fail("first")

    def test_skips_and_errs(self):
        self.skipTest("first")


@tag("no_buffer")
class DatabasePostTeardownErrors(TestCase):
    def _post_teardown(self):
        super()._post_teardown()
        raise ValueError("in _post_teardown")

    def test_passes_and_errs(self):
        Genre.objects.create(name="gone afterwards")


class AfterTheHooks(TestCase):
    def test_is_unhurt(self):
        self.assertEqual(Genre.objects.count(), 3)
