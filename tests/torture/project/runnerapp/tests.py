"""Tests for torture.settings_runner: the house runner's result class and rows. Nothing is here under other settings."""

import unittest

from django.conf import settings
from django.db import connections
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from catalog.models import Genre
from ledger.models import Line
from torture.runner import ServiceUnavailable


class HouseResultTests(SimpleTestCase):
    def test_unavailable_service_is_a_skip(self):
        raise ServiceUnavailable("warehouse")

    def test_other_errors_are_errors(self):
        raise ValueError("an error all the same")

    def test_passes(self):
        pass

    def test_unavailable_in_a_sub_test_is_an_error(self):
        """The house rule overrides addError, not addSubTest."""
        with self.subTest("inside"):
            raise ServiceUnavailable("warehouse")


class HouseFixtureTests(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        raise ServiceUnavailable("in setUpClass, where it is a skip as well")

    def test_a(self):
        self.fail("it ran")


class HouseRowsTests(TestCase):
    databases = {"default", "other"}

    def test_row_of_the_runner(self):
        self.assertEqual(Genre.objects.count(), 4)
        self.assertTrue(Genre.objects.filter(name="house").exists())

    def test_other_was_made_without_migrations(self):
        self.assertEqual(Line.objects.count(), 0)

    def test_migration_modules_are_as_configured(self):
        """MIGRATE: False empties them while the database is made, not longer."""
        self.assertEqual(settings.MIGRATION_MODULES, {})
        self.assertFalse(connections["other"].settings_dict["TEST"]["MIGRATE"])


class HouseTransactionTests(TransactionTestCase):
    def test_1_first_sees_the_row_of_the_runner(self):
        self.assertTrue(Genre.objects.filter(name="house").exists())

    def test_2_later_ones_do_not(self):
        self.assertFalse(Genre.objects.filter(name="house").exists())


class HouseWithRollbackTests(TransactionTestCase):
    """The serialized contents were taken before the runner added its row."""

    serialized_rollback = True

    def test_rows(self):
        self.assertEqual(sorted(Genre.objects.values_list("name", flat=True)), ["fiction", "poetry", "science"])


class HousePlainTests(unittest.TestCase):
    def test_database_was_flushed(self):
        self.assertFalse(Genre.objects.filter(name="house").exists())


def load_tests(loader, tests, pattern):
    return tests if settings.TEST_RUNNER == "torture.runner.HouseRunner" else unittest.TestSuite()
