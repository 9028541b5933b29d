from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import SimpleTestCase, TestCase, TransactionTestCase
from django.urls import reverse
from oscar.core.loading import get_model
from oscar.core.utils import slugify
from oscar.test.factories import create_product

Category = get_model("catalogue", "Category")
Product = get_model("catalogue", "Product")


class Categories(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.books = Category.add_root(name="Books")
        cls.novels = cls.books.add_child(name="Novels")

    def test_a_child_is_below_its_parent(self):
        self.assertEqual(list(self.books.get_descendants()), [self.novels])

    def test_the_slug_is_made_of_the_names(self):
        self.assertEqual(self.novels.full_slug, "books/novels")


class Pages(TestCase):
    def test_the_basket_has_a_page(self):
        self.assertContains(self.client.get(reverse("basket:summary")), "Your cart is empty")


class Migrated(TestCase):
    def test_all_apps_have_their_tables(self):
        self.assertGreater(len(connection.introspection.table_names()), 80)
        self.assertTrue(ContentType.objects.filter(app_label="voucher", model="voucher").exists())


class Committed(TransactionTestCase):
    def test_a_product_is_there_after_commit(self):
        create_product(upc="1234567890")
        self.assertEqual(Product.objects.get().upc, "1234567890")

    def test_nothing_of_another_test_is_left(self):
        self.assertFalse(Product.objects.exists())


class Slugs(SimpleTestCase):
    def test_a_slug_is_lower_case(self):
        self.assertEqual(slugify("Two Words"), "two-words")
