from decimal import Decimal

from django.contrib.auth.models import User
from django.test import SimpleTestCase, TestCase

from accounts.models import Customer


class LevelTests(SimpleTestCase):
    def test_levels(self):
        for points, level in [(0, "reader"), (249, "reader"), (250, "silver"), (999, "silver"), (1000, "gold")]:
            with self.subTest(points=points):
                self.assertEqual(Customer(points=points).level, level)


class CustomerTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.customer = Customer.objects.create(user=User.objects.create(username="ada", first_name="Ada"))

    def test_text_is_the_full_name(self):
        self.assertEqual(str(self.customer), "Ada")

    def test_text_without_a_name(self):
        self.assertEqual(str(Customer(user=User(username="anon"))), "anon")

    def test_starts_without_points(self):
        self.assertEqual(self.customer.points, 0)

    def test_earns_a_point_for_each_unit(self):
        self.customer.earn(Decimal("19.99"))
        self.customer.refresh_from_db()
        self.assertEqual(self.customer.points, 19)

    def test_points_add_up(self):
        self.customer.earn(Decimal(200))
        self.customer.earn(Decimal(60))
        self.assertEqual(self.customer.level, "silver")

    def test_goes_with_its_user(self):
        self.customer.user.delete()
        self.assertFalse(Customer.objects.exists())
