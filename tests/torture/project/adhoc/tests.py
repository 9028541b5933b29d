"""A model that exists only here: its table is there only if this module was imported before the database was made."""

from django.db import models
from django.test import TestCase

from .models import Listed


class OnlyInTests(models.Model):
    name = models.CharField(max_length=20)

    class Meta:
        app_label = "adhoc"


class AdhocModelTests(TestCase):
    def test_the_table_of_the_test_model_exists(self):
        OnlyInTests.objects.create(name="a")
        self.assertEqual(OnlyInTests.objects.count(), 1)

    def test_the_table_of_the_app_without_migrations_exists(self):
        Listed.objects.create(name="a")
        self.assertEqual(Listed.objects.get().name, "a")

    def test_rows_of_the_other_tests_are_gone(self):
        self.assertEqual((Listed.objects.count(), OnlyInTests.objects.count()), (0, 0))
