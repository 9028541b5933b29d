"""Payments go through a gateway that takes its time."""

from decimal import Decimal

from django.test import SimpleTestCase, TestCase

from catalogue.factories import make_book
from orders import services
from orders.factories import make_customer, make_order
from orders.models import Order
from orders.payments import Declined, Gateway


class GatewayTests(SimpleTestCase):
    def setUp(self):
        self.gateway = Gateway(latency=0.1)

    def test_charges(self):
        self.gateway.charge("order-1", Decimal("9.99"))
        self.assertEqual(self.gateway.charged, [("order-1", Decimal("9.99"))])

    def test_charges_the_limit(self):
        self.gateway.charge("order-1", Decimal(500))
        self.assertEqual(len(self.gateway.charged), 1)

    def test_declines_above_the_limit(self):
        with self.assertRaisesMessage(Declined, "500.01 is above the limit of 500"):
            self.gateway.charge("order-1", Decimal("500.01"))
        self.assertEqual(self.gateway.charged, [])

    def test_several_charges(self):
        for number in range(3):
            self.gateway.charge(f"order-{number}", Decimal(1))
        self.assertEqual(len(self.gateway.charged), 3)


class PayTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        make_book("Atlas", price="100.00", stock=9)
        cls.order = make_order(make_customer(), atlas=2)

    def test_state(self):
        services.pay(self.order)
        self.order.refresh_from_db()
        self.assertEqual(self.order.state, Order.State.PAID)

    def test_amount(self):
        gateway = Gateway()
        services.pay(self.order, gateway)
        self.assertEqual(gateway.charged, [(f"order-{self.order.pk}", Decimal("214.00"))])

    def test_customer_earns_points(self):
        services.pay(self.order)
        self.assertEqual(self.order.customer.points, 214)

    def test_declined(self):
        with self.assertRaises(Declined):
            services.pay(self.order, Gateway(limit=Decimal(100)))
        self.order.refresh_from_db()
        self.assertEqual((self.order.state, self.order.customer.points), (Order.State.OPEN, 0))

    def test_only_once(self):
        services.pay(self.order)
        with self.assertRaises(services.WrongState):
            services.pay(self.order)

    def test_cannot_be_sent_unpaid(self):
        with self.assertRaisesMessage(services.WrongState, "the order is open, not paid"):
            services.send(self.order)

    def test_paid_orders_are_sent(self):
        services.pay(self.order)
        services.send(self.order)
        self.assertEqual(self.order.state, Order.State.SENT)

    def test_paid_orders_cannot_be_cancelled(self):
        services.pay(self.order)
        with self.assertRaises(services.WrongState):
            services.cancel(self.order)
