"""With BOOKSHOP_BROKEN=1: tests that fail in every way a user may meet. Otherwise this module is empty."""

import os
from decimal import Decimal
from unittest import TestSuite, expectedFailure

from django.test import SimpleTestCase, TestCase

from catalogue import pricing
from catalogue.factories import make_book
from catalogue.models import Book


class BrokenPriceTests(SimpleTestCase):
    def test_assertion_with_a_diff(self):
        prices = {copies: str(pricing.line_total(Decimal("10.00"), copies)) for copies in (1, 5, 10)}
        self.assertEqual(prices, {1: "10.00", 5: "50.00", 10: "90.00"})

    def test_error(self):
        pricing.with_vat("ten")

    def test_sub_tests(self):
        for copies, percent in [(1, 0), (5, 5), (9, 10), (10, 10), (20, 15)]:
            with self.subTest(copies=copies):
                self.assertEqual(pricing.discount_percent(copies), percent)

    @expectedFailure
    def test_unexpected_success(self):
        self.assertEqual(pricing.discount_percent(1), 0)


class BrokenSearchTests(TestCase):
    def test_prints_and_fails(self):
        book = make_book("Atlas")
        print(f"searching for {book.title!r}, stock {book.stock}")
        self.assertIn(book, Book.objects.search("atlsa"))

    def test_passes(self):
        self.assertEqual(Book.objects.count(), 0)


class BrokenSetUpTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.get(slug="no-such-book")

    def test_title(self):
        self.assertEqual(self.book.title, "No such book")

    def test_price(self):
        self.assertEqual(self.book.price, Decimal("1.00"))


def load_tests(loader, tests, pattern):
    return tests if os.environ.get("BOOKSHOP_BROKEN") == "1" else TestSuite()
