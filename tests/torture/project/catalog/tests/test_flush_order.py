"""What transactional tests see depends on who came before: the first finds the rows of the migrations, later ones
find a database that was flushed. Some of these tests are red in the sequential run on purpose.

This module and, by their names, its classes come first among the transactional ones of the default selection. Keep
other transactional classes out of it.
"""

from unittest import skip

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import SimpleTestCase, TransactionTestCase

from catalog.models import Genre, Remark

MIGRATED = ["fiction", "poetry", "science"]


def names():
    return sorted(Genre.objects.values_list("name", flat=True))


@skip("so it flushes nothing, although it is the first transactional class")
class OrderASkipped(TransactionTestCase):
    def test_never_runs(self):
        self.fail("it ran")


class OrderBFirst(TransactionTestCase):
    def test_1_sees_the_rows_of_the_migrations(self):
        self.assertEqual(names(), MIGRATED)

    def test_2_sees_what_the_flush_of_test_1_left(self):
        self.assertEqual(names(), [])


class OrderCLater(TransactionTestCase):
    def test_1_sees_a_flushed_database(self):
        self.assertEqual(names(), [])

    def test_2_post_migrate_has_run_after_the_flush(self):
        self.assertTrue(ContentType.objects.filter(app_label="catalog", model="genre").exists())
        self.assertTrue(Permission.objects.filter(codename="add_genre").exists())


class OrderDRed(TransactionTestCase):
    """Green on a clone of its own, red in the sequential run."""

    def test_expects_rows_that_are_flushed_by_now(self):
        self.assertEqual(names(), MIGRATED)


class OrderEPostMigrateFirst(TransactionTestCase):
    """Its first test sees the content types that the flush of another class made anew."""

    def test_1_content_types_are_there(self):
        self.assertTrue(ContentType.objects.filter(app_label="catalog", model="genre").exists())

    def test_2_a_content_type_key_is_good(self):
        genre = Genre.objects.create(name="essay")
        Remark.objects.create(
            content_type=ContentType.objects.get_for_model(Genre), object_id=genre.pk, text="fresh key"
        )
        connection.check_constraints()


class OrderFSimpleReader(SimpleTestCase):
    """A SimpleTestCase that may use the database neither flushes nor rolls back; it sees what is there."""

    databases = {"default"}

    def test_sees_a_flushed_database(self):
        self.assertEqual(names(), [])


class OrderGRedSimpleReader(SimpleTestCase):
    databases = {"default"}

    def test_expects_rows_that_are_flushed_by_now(self):
        self.assertEqual(names(), MIGRATED)


class OrderHStatefulTransactions(TransactionTestCase):
    def test_1_commits(self):
        Genre.objects.create(name="drama")
        self.assertEqual(names(), ["drama"])

    def test_2_sees_no_row_of_test_1(self):
        self.assertEqual(names(), [])
