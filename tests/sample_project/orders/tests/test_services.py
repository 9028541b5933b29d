from decimal import Decimal

from django.core import mail
from django.db import IntegrityError, transaction
from django.test import TestCase

from catalogue.factories import make_book
from catalogue.models import Book
from orders import services
from orders.factories import make_customer, make_order
from orders.models import Line, Order


class PlaceTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.customer = make_customer()
        cls.atlas = make_book("Atlas", price="10.00", stock=5)
        cls.poems = make_book("Poems", price="5.50", stock=1)

    def test_lines(self):
        order = make_order(self.customer, atlas=2, poems=1)
        self.assertEqual([(line.book.slug, line.copies) for line in order.lines.all()], [("atlas", 2), ("poems", 1)])

    def test_totals(self):
        order = make_order(self.customer, atlas=2, poems=1)
        self.assertEqual((order.net, order.total), (Decimal("25.50"), Decimal("27.29")))

    def test_discount(self):
        self.assertEqual(make_order(self.customer, atlas=5).net, Decimal("47.50"))

    def test_stock_goes_down(self):
        make_order(self.customer, atlas=2)
        self.assertEqual(Book.objects.get(slug="atlas").stock, 3)

    def test_out_of_stock(self):
        with self.assertRaisesMessage(services.OutOfStock, "Poems: 2 ordered, 1 left"):
            make_order(self.customer, poems=2)

    def test_out_of_stock_changes_nothing(self):
        with self.assertRaises(services.OutOfStock):
            make_order(self.customer, atlas=1, poems=2)
        self.assertFalse(Order.objects.exists())
        self.assertEqual(Book.objects.get(slug="atlas").stock, 5)

    def test_empty_basket(self):
        with self.assertRaisesMessage(ValueError, "the basket is empty"):
            make_order(self.customer)

    def test_unknown_book(self):
        with self.assertRaises(Book.DoesNotExist):
            make_order(self.customer, zebra=1)

    def test_price_is_that_of_the_day(self):
        order = make_order(self.customer, atlas=1)
        Book.objects.update(price="99.00")
        self.assertEqual(order.net, Decimal("10.00"))

    def test_confirmation(self):
        with self.captureOnCommitCallbacks(execute=True):
            make_order(self.customer, atlas=1)
        self.assertEqual(mail.outbox[0].to, ["ada@example.org"])
        self.assertIn("10.70", mail.outbox[0].body)

    def test_one_line_for_each_book(self):
        order = make_order(self.customer, atlas=1)
        with self.assertRaises(IntegrityError), transaction.atomic():
            Line.objects.create(order=order, book=self.atlas, copies=1, price=1)

    def test_no_line_without_copies(self):
        order = make_order(self.customer, atlas=1)
        with self.assertRaises(IntegrityError), transaction.atomic():
            Line.objects.create(order=order, book=self.poems, copies=0, price=1)


class CancelTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        make_book("Atlas", stock=5)
        cls.order = make_order(make_customer(), atlas=2)

    def test_state(self):
        services.cancel(self.order)
        self.order.refresh_from_db()
        self.assertEqual(self.order.state, Order.State.CANCELLED)

    def test_stock_comes_back(self):
        services.cancel(self.order)
        self.assertEqual(Book.objects.get().stock, 5)

    def test_only_once(self):
        services.cancel(self.order)
        with self.assertRaisesMessage(services.WrongState, "the order is cancelled, not open"):
            services.cancel(self.order)

    def test_cannot_be_sent_then(self):
        services.cancel(self.order)
        with self.assertRaises(services.WrongState):
            services.send(self.order)
