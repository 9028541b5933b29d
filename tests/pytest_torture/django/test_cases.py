import unittest

from django.test import SimpleTestCase, TestCase, TransactionTestCase, tag
from library.models import Book, Genre


class BookTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.create(title="class data")

    def test_data(self):
        assert Book.objects.get(pk=self.book.pk).title == "class data"

    def test_change(self):
        self.book.title = "changed"
        self.book.save()

    def test_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 1)

    @unittest.expectedFailure
    def test_expected(self):
        self.fail("known")

    @unittest.skip("not today")
    def test_skipped(self):
        raise AssertionError

    @tag("slow")
    def test_tagged(self):
        assert Genre.objects.count() == 2


class BrokenTests(TestCase):
    @classmethod
    def setUpClass(cls):
        raise RuntimeError("before the class")

    def test_one(self): ...

    def test_two(self): ...


class FlushTests(TransactionTestCase):
    def test_empty(self):
        assert Genre.objects.count() == 0

    def test_a_row(self):
        Book.objects.create(title="x")


class SimpleTests(SimpleTestCase):
    def test_no_database(self):
        assert self.client.get("/nowhere/").status_code == 404

    def test_forbidden(self):
        Book.objects.count()


class PlainTests(unittest.TestCase):
    def test_blocked(self):
        Book.objects.count()

    def test_plain(self):
        assert 1 + 1 == 2
