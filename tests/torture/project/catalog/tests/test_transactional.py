"""Transactional tests with serialized_rollback, available_apps, reset_sequences, fixtures; TestCases beside them."""

from django.apps import apps
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.test import SimpleTestCase, TestCase, TransactionTestCase, tag

from catalog.models import Book, Counter, Genre

MIGRATED = ["fiction", "poetry", "science"]


def names():
    return sorted(Genre.objects.values_list("name", flat=True))


class MigratedRowsTests(TestCase):
    """TestCases see the rows of the migrations, however many transactional tests are in the run."""

    def test_rows_are_there(self):
        self.assertEqual(names(), MIGRATED)

    def test_deleting_them_does_not_last(self):
        Genre.objects.all().delete()
        self.assertEqual(names(), [])

    def test_still_there(self):
        self.assertEqual(names(), MIGRATED)


class MoreMigratedRowsTests(TestCase):
    def test_rows_are_there(self):
        self.assertEqual(names(), MIGRATED)


class RestoreAfterwards:
    """Leaves the database as a plain TransactionTestCase does: such classes flush without post_migrate signals, and
    what a later class sees of that is no verdict this project wants to hang on."""

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        call_command("flush", verbosity=0, interactive=False, reset_sequences=False)
        emit_post_migrate_signal(verbosity=0, interactive=False, db="default")


class SerializedRollbackTests(RestoreAfterwards, TransactionTestCase):
    serialized_rollback = True

    def test_1_sees_the_rows_of_the_migrations(self):
        self.assertEqual(names(), MIGRATED)
        Genre.objects.all().delete()

    def test_2_sees_them_again(self):
        self.assertEqual(names(), MIGRATED)

    def test_3_nothing_else_is_there(self):
        self.assertEqual(Book.objects.count(), 0)


@tag("serialized")
class SerializedRollbackAgainTests(RestoreAfterwards, TransactionTestCase):
    serialized_rollback = True

    def test_sees_the_rows_of_the_migrations(self):
        self.assertEqual(names(), MIGRATED)


class AvailableAppsTests(RestoreAfterwards, TransactionTestCase):
    available_apps = ["catalog", "django.contrib.contenttypes", "django.contrib.auth"]

    def test_other_apps_are_not_installed(self):
        self.assertFalse(apps.is_installed("adhoc"))
        self.assertTrue(apps.is_installed("catalog"))

    def test_the_database_works(self):
        Genre.objects.create(name="kept")
        self.assertIn("kept", names())


class AllAppsAgainTests(SimpleTestCase):
    def test_every_app_is_installed(self):
        self.assertTrue(apps.is_installed("adhoc"))


class ResetSequencesTests(TransactionTestCase):
    reset_sequences = True

    def test_1_first_key_is_one(self):
        self.assertEqual(Counter.objects.create(label="a").pk, 1)

    def test_2_and_again(self):
        self.assertEqual(Counter.objects.create(label="b").pk, 1)


class TransactionFixtureTests(TransactionTestCase):
    fixtures = ["shelf.json"]

    def test_1_fixture_rows_are_there(self):
        self.assertEqual(Book.objects.get(pk=9001).genre.name, "atlas")
        Book.objects.all().delete()

    def test_2_fixture_rows_are_there_again(self):
        self.assertEqual(Book.objects.count(), 1)
