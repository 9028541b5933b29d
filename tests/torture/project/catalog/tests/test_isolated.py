"""django.test.TestCase: rollback, setUpTestData and its guards, content types, what fails inside transactions."""

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.core import mail
from django.core.cache import caches
from django.db import IntegrityError, connection, connections, transaction
from django.test import TestCase, override_settings, skipUnlessDBFeature, tag

from catalog.models import Book, Genre, Remark

from .shared import SharedGenreTests  # noqa: F401  (the same class in two modules is one set of tests)


class TestDataTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.genre = Genre.objects.create(name="travel")
        cls.titles = []

    def test_1_changes_its_copy(self):
        self.genre.name = "changed"
        self.genre.save()
        self.titles.append("one")
        self.assertEqual(self.titles, ["one"])

    def test_2_gets_a_fresh_copy(self):
        self.assertEqual((self.genre.name, self.titles), ("travel", []))
        self.assertEqual(Genre.objects.get(pk=self.genre.pk).name, "travel")


class GuardedTestDataTests(TestCase):
    """Cannot be run twice in one process: the guard keeps a row that was rolled back."""

    @classmethod
    def setUpTestData(cls):
        if not hasattr(cls, "genre_pk"):
            cls.genre_pk = Genre.objects.create(name="guarded").pk

    def test_the_guarded_row_is_there(self):
        self.assertTrue(Genre.objects.filter(pk=self.genre_pk).exists())

    def test_the_guarded_row_is_there_again(self):
        self.assertTrue(Genre.objects.filter(pk=self.genre_pk).exists())


class GrowingListTests(TestCase):
    """Cannot be run twice in one process: the list would grow."""

    runs = []

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.runs.append("set up")

    def test_set_up_ran_once(self):
        self.assertEqual(self.runs, ["set up"])


class ContentTypeCacheTests(TestCase):
    """Fills the process's content type cache and uses the key in the database."""

    def test_a_cached_content_type_is_a_good_key(self):
        genre = Genre.objects.get(name="poetry")
        content_type = ContentType.objects.get_for_model(Genre)
        Remark.objects.create(content_type=content_type, object_id=genre.pk, text="cached")
        connection.check_constraints()
        self.assertEqual(ContentType.objects.get(app_label="catalog", model="genre").pk, content_type.pk)


class MoreContentTypeCacheTests(ContentTypeCacheTests):
    pass


class FixtureTests(TestCase):
    fixtures = ["shelf.json"]

    def test_fixture_rows_are_there(self):
        self.assertEqual(Book.objects.get().title, "Maps of the moon")

    def test_client_sees_them(self):
        self.assertIn("atlas", self.client.get("/genres/").json()["genres"])


class BrokenFixtureTests(TestCase):
    fixtures = ["no-such-fixture.json"]

    def test_never_runs(self):
        self.fail("it ran")


class TransactionTests(TestCase):
    def test_a_broken_transaction_is_an_error(self):
        try:
            Genre.objects.create(name="fiction")
        except IntegrityError:
            pass
        Genre.objects.count()

    def test_the_next_test_is_unhurt(self):
        self.assertEqual(Genre.objects.count(), 3)

    def test_savepoints(self):
        with self.assertRaises(IntegrityError), transaction.atomic():
            Genre.objects.create(name="fiction")
        self.assertEqual(Genre.objects.count(), 3)

    def test_on_commit(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            transaction.on_commit(lambda: mail.send_mail("hello", "", "a@example.org", ["b@example.org"]))
        self.assertEqual((len(callbacks), len(mail.outbox)), (1, 1))

    def test_the_outbox_is_empty_again(self):
        self.assertEqual(mail.outbox, [])

    def test_number_of_queries(self):
        with self.assertNumQueries(1):
            list(Genre.objects.all())

    def test_wrong_number_of_queries_fails(self):
        with self.assertNumQueries(2):
            list(Genre.objects.all())


@tag("no_buffer")
class DanglingKeyTests(TestCase):
    def test_passes_and_then_fails_the_constraint_check(self):
        """One test, two events: ok, and ERROR from the tear-down."""
        Book.objects.create(title="orphan", genre_id=-1)

    def test_is_not_hurt(self):
        self.assertEqual(Book.objects.count(), 0)


class CacheTableTests(TestCase):
    """The table was made by createcachetable while the database was set up."""

    def test_cache_table(self):
        caches["table"].set("key", "value")
        self.assertEqual(caches["table"].get("key"), "value")

    def test_cache_table_is_rolled_back(self):
        self.assertIsNone(caches["table"].get("key"))


class DatabaseNameTests(TestCase):
    databases = "__all__"

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        connections["mirror"].close()  # Django would not, and then cannot drop the database

    def test_settings_and_connection_name_the_same_database(self):
        self.assertEqual(settings.DATABASES["default"]["NAME"], connection.settings_dict["NAME"])

    def test_it_is_no_production_database(self):
        for alias in ("default", "other"):
            self.assertNotEqual(str(settings.DATABASES[alias]["NAME"]), str(settings.PRODUCTION_NAMES[alias]))

    def test_migration_modules_are_as_configured(self):
        self.assertEqual(settings.MIGRATION_MODULES, {})


class DebugTests(TestCase):
    def test_debug_is_off(self):
        """Fails under --debug-mode, as it does sequentially."""
        self.assertFalse(settings.DEBUG)

    @override_settings(DEBUG=True, SECRET_KEY="other")
    def test_override_settings(self):
        self.assertTrue(settings.DEBUG)
        self.assertEqual(settings.SECRET_KEY, "other")

    def test_override_is_over(self):
        self.assertEqual(settings.SECRET_KEY, "torture")

    def test_fails_after_some_queries(self):
        """--debug-sql shows them."""
        self.assertEqual(Genre.objects.filter(name="fiction").count(), 2)


@override_settings(GREETING="hello")
class OverriddenClassTests(TestCase):
    def test_setting(self):
        self.assertEqual(settings.GREETING, "hello")


class FeatureTests(TestCase):
    @skipUnlessDBFeature("supports_transactions")
    def test_feature_that_is_there(self):
        self.assertTrue(connection.in_atomic_block)

    @skipUnlessDBFeature("interprets_empty_strings_as_nulls")
    def test_feature_that_is_not_there(self):
        self.fail("it ran")


@skipUnlessDBFeature("interprets_empty_strings_as_nulls")
class FeatureClassTests(TestCase):
    def test_never_runs(self):
        self.fail("it ran")
