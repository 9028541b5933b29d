from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.test import TestCase

from catalogue.factories import make_author, make_book
from catalogue.models import Author, Book, Genre


class GenreTests(TestCase):
    def test_the_migration_filled_them_in(self):
        self.assertEqual(Genre.objects.count(), 5)

    def test_they_are_sorted(self):
        self.assertEqual([str(genre) for genre in Genre.objects.all()][:2], ["Children", "Fiction"])

    def test_names_are_unique(self):
        with self.assertRaises(IntegrityError), transaction.atomic():
            Genre.objects.create(name="Poetry")

    def test_a_deleted_genre_leaves_its_books(self):
        genre = Genre.objects.get(name="Travel")
        book = make_book(genre=genre)
        genre.delete()
        book.refresh_from_db()
        self.assertIsNone(book.genre)


class BookTests(TestCase):
    def test_text(self):
        self.assertEqual(str(make_book("Sketches")), "Sketches")

    def test_slug_comes_from_the_title(self):
        self.assertEqual(make_book("Notes & Sketches").slug, "notes-sketches")

    def test_a_given_slug_is_kept(self):
        self.assertEqual(make_book("Notes", slug="my-notes").slug, "my-notes")

    def test_slugs_are_unique(self):
        make_book("Notes")
        with self.assertRaises(IntegrityError), transaction.atomic():
            make_book("Notes")

    def test_url(self):
        self.assertEqual(make_book("Notes").get_absolute_url(), "/books/notes/")

    def test_price_is_exact(self):
        self.assertEqual(make_book(price="12.35").price, Decimal("12.35"))

    def test_a_negative_price_is_not_valid(self):
        book = make_book()
        book.price = Decimal("-1")
        with self.assertRaises(ValidationError) as caught:
            book.full_clean()
        self.assertIn("price", caught.exception.message_dict)

    def test_a_wrong_isbn_is_not_valid(self):
        book = make_book()
        book.isbn = "9780306406158"
        with self.assertRaises(ValidationError) as caught:
            book.full_clean()
        self.assertIn("isbn", caught.exception.message_dict)

    def test_an_author_with_books_is_protected(self):
        author = make_book().author
        with self.assertRaises(ProtectedError):
            author.delete()

    def test_an_author_without_books_is_not(self):
        make_author("Nobody").delete()
        self.assertFalse(Author.objects.filter(name="Nobody").exists())


class BookQueryTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.engine = make_book("The Engine", author=make_author("Ada Byron"))
        cls.poems = make_book("Poems", author=make_author("George Byron"), stock=0)
        cls.atlas = make_book("Atlas", author=make_author("Gerard Mercator"))

    def test_sorted_by_title(self):
        self.assertEqual(list(Book.objects.all()), [self.atlas, self.poems, self.engine])

    def test_in_stock(self):
        self.assertEqual(list(Book.objects.in_stock()), [self.atlas, self.engine])

    def test_search_by_title(self):
        self.assertEqual(list(Book.objects.search("atl")), [self.atlas])

    def test_search_by_author(self):
        self.assertEqual(list(Book.objects.search("byron")), [self.poems, self.engine])

    def test_search_for_nothing_known(self):
        self.assertFalse(Book.objects.search("zebra").exists())

    def test_querysets_chain(self):
        self.assertEqual(list(Book.objects.in_stock().search("byron")), [self.engine])

    def test_one_query(self):
        with self.assertNumQueries(1):
            [str(book.author) for book in Book.objects.select_related("author")]


class FixtureTests(TestCase):
    fixtures = ["classics.json"]

    def test_books(self):
        self.assertEqual(Book.objects.count(), 2)

    def test_isbns_are_valid(self):
        for book in Book.objects.all():
            with self.subTest(book=book.title):
                book.full_clean()

    def test_sold_out(self):
        self.assertFalse(Book.objects.get(slug="eighty-days").in_stock)
