"""Plain unittest tests that use the database: they run last, after every transactional test, and nothing guards them.

They delete what they make, since the rows of one class would else reach the next.
"""

import unittest

from django.db import connections

from catalog.models import Genre
from ledger.models import Line

from .shared import SharedGenreTests  # noqa: F401


def names():
    return sorted(Genre.objects.values_list("name", flat=True))


class UnmanagedReaderTests(unittest.TestCase):
    def test_rows_of_the_migrations_were_flushed(self):
        self.assertEqual(names(), [])


class RedUnmanagedReaderTests(unittest.TestCase):
    def test_expects_rows_that_are_flushed_by_now(self):
        self.assertEqual(names(), ["fiction", "poetry", "science"])


class UnmanagedWriterTests(unittest.TestCase):
    """Its tests build on each other, through the database and through the class."""

    @classmethod
    def tearDownClass(cls):
        Genre.objects.filter(name="left behind").delete()

    def test_1_writes(self):
        Genre.objects.create(name="left behind")

    def test_2_sees_it(self):
        self.assertEqual(names(), ["left behind"])

    def test_3_both_databases_are_connected(self):
        self.addCleanup(connections["mirror"].close)
        self.assertEqual(Line.objects.using("other").count(), 0)
        self.assertEqual(Genre.objects.using("mirror").count(), 1)
