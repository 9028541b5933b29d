from decimal import Decimal

from django.test import TestCase
from oscar.core.loading import get_class, get_model
from oscar.test.factories import create_product

Basket = get_model("basket", "Basket")
Default = get_class("partner.strategy", "Default")


class BasketTotals(TestCase):
    def setUp(self):
        self.basket = Basket.objects.create()
        self.basket.strategy = Default()

    def test_a_new_basket_is_empty(self):
        self.assertTrue(self.basket.is_empty)

    def test_two_of_one_product_are_one_line(self):
        product = create_product(price=Decimal("12.00"), num_in_stock=5)
        self.basket.add_product(product, quantity=2)
        self.assertEqual(self.basket.num_lines, 1)
        self.assertEqual(self.basket.total_incl_tax, Decimal("24.00"))

    def test_flushing_removes_all_lines(self):
        self.basket.add_product(create_product(price=Decimal("1.00"), num_in_stock=1))
        self.basket.flush()
        self.assertEqual(self.basket.num_items, 0)
