"""The nightly sales report is slow on purpose: it stands for work on a lot of data."""

import time
from collections import Counter
from decimal import Decimal

from django.test import TestCase

from catalogue.factories import make_book
from orders.factories import make_customer, make_order
from orders.models import Order


def sales_by_book():
    time.sleep(0.3)
    sold = Counter()
    for order in Order.objects.exclude(state=Order.State.CANCELLED).prefetch_related("lines__book"):
        for line in order.lines.all():
            sold[line.book.title] += line.copies
    return sold


class SalesReportTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        make_book("Atlas", stock=100)
        make_book("Poems", stock=100)
        customer = make_customer()
        for copies in (1, 2, 3):
            make_order(customer, atlas=copies)
        cls.order = make_order(customer, poems=4)

    def test_copies(self):
        self.assertEqual(sales_by_book(), {"Atlas": 6, "Poems": 4})

    def test_best_seller(self):
        self.assertEqual(sales_by_book().most_common(1), [("Atlas", 6)])

    def test_cancelled_orders_do_not_count(self):
        self.order.state = Order.State.CANCELLED
        self.order.save()
        self.assertEqual(sales_by_book()["Poems"], 0)

    def test_no_orders(self):
        Order.objects.all().delete()
        self.assertEqual(sales_by_book(), {})

    def test_turnover(self):
        time.sleep(0.2)
        self.assertEqual(sum(order.net for order in Order.objects.all()), Decimal("100.00"))

    def test_number_of_queries(self):
        with self.assertNumQueries(3):
            sales_by_book()
