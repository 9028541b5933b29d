"""A test class that two modules import."""

from django.test import TestCase

from catalog.models import Genre


class SharedGenreTests(TestCase):
    def test_is_found_twice_and_run_once(self):
        self.assertEqual(Genre.objects.filter(name="science").count(), 1)
