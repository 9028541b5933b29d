"""Several databases: `other` and a mirror of `default`. A flush reaches the databases of its class only."""

from django.db import connections
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from catalog.models import Genre
from ledger.models import Line


def lines():
    return sorted(Line.objects.values_list("text", flat=True))


class OtherTests(TestCase):
    databases = {"other"}

    def test_row_of_the_migration(self):
        self.assertEqual(lines(), ["opening balance"])

    def test_rollback_1(self):
        Line.objects.create(text="more")
        self.assertEqual(len(lines()), 2)

    def test_rollback_2(self):
        self.assertEqual(len(lines()), 1)

    def test_default_is_forbidden_here(self):
        Genre.objects.count()


class AllDatabasesTests(TestCase):
    databases = "__all__"

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        connections["mirror"].close()  # Django would not, and then cannot drop the database

    def test_both_have_the_rows_of_their_migrations(self):
        self.assertEqual((lines(), Genre.objects.count()), (["opening balance"], 3))

    def test_mirror_reads_the_primary(self):
        self.assertEqual(Genre.objects.using("mirror").count(), 3)

    def test_mirror_follows_the_name(self):
        self.assertEqual(connections["mirror"].settings_dict["NAME"], connections["default"].settings_dict["NAME"])

    def test_other_is_another_database(self):
        self.assertNotEqual(connections["other"].settings_dict["NAME"], connections["default"].settings_dict["NAME"])


class UndeclaredTests(TestCase):
    def test_other_is_forbidden_here(self):
        lines()


class NoDatabaseTests(SimpleTestCase):
    def test_database_is_forbidden_here(self):
        Genre.objects.count()

    def test_works_without(self):
        self.assertEqual(str(Line(text="x").text), "x")


class OrderAOtherFirst(TransactionTestCase):
    """`default` was flushed by earlier classes; `other` was not, until this class does it."""

    databases = {"default", "other"}

    def test_1_sees_rows_on_other_only(self):
        self.assertEqual((lines(), Genre.objects.count()), (["opening balance"], 0))

    def test_2_sees_rows_on_neither(self):
        self.assertEqual((lines(), Genre.objects.count()), ([], 0))


class OrderBOtherLater(TransactionTestCase):
    databases = {"other"}

    def test_other_was_flushed(self):
        self.assertEqual(lines(), [])


class OrderCRedOtherLater(TransactionTestCase):
    databases = {"other"}

    def test_expects_rows_that_are_flushed_by_now(self):
        self.assertEqual(lines(), ["opening balance"])


class MirrorTransactionTests(TransactionTestCase):
    databases = {"default", "mirror"}

    def tearDown(self):
        connections["mirror"].close()

    def test_mirror_sees_committed_rows(self):
        Genre.objects.create(name="mirrored")
        self.assertTrue(Genre.objects.using("mirror").filter(name="mirrored").exists())


class OtherSerializedTests(TransactionTestCase):
    databases = {"other"}
    serialized_rollback = True

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        from django.core.management import call_command

        call_command("flush", verbosity=0, interactive=False, reset_sequences=False, database="other")

    def test_1_row_of_the_migration(self):
        self.assertEqual(lines(), ["opening balance"])
        Line.objects.all().delete()

    def test_2_row_of_the_migration_again(self):
        self.assertEqual(lines(), ["opening balance"])
