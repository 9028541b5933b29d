"""From the basket to the order: through the client, with real commits, and over a real server."""

import json
from decimal import Decimal
from urllib.request import urlopen

from django.contrib.auth.models import User
from django.core import mail
from django.test import LiveServerTestCase, TestCase, TransactionTestCase

from catalogue.factories import make_book
from catalogue.models import Book
from orders import services
from orders.factories import make_customer, make_order
from orders.models import Order


class CheckoutTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.user = User.objects.create(username="ada", email="ada@example.org")
        make_book("Atlas", price="10.00", stock=2)

    def check_out(self, copies):
        self.client.force_login(self.user)
        if copies:
            self.client.post("/basket/add/atlas/", {"copies": copies})
        return self.client.post("/checkout/")

    def test_makes_an_order(self):
        self.assertEqual(self.check_out(2).status_code, 201)
        self.assertEqual(Order.objects.get().total, Decimal("21.40"))

    def test_tells_the_total(self):
        self.assertEqual(self.check_out(1).json()["total"], "10.70")

    def test_empties_the_basket(self):
        self.check_out(1)
        self.assertEqual(self.client.get("/basket/").json()["count"], 0)

    def test_too_many_copies(self):
        answer = self.check_out(3)
        self.assertEqual((answer.status_code, answer.json()), (409, {"error": "Atlas: 3 ordered, 2 left"}))

    def test_too_many_copies_keep_the_basket(self):
        self.check_out(3)
        self.assertEqual(self.client.get("/basket/").json()["count"], 3)

    def test_empty_basket(self):
        self.assertEqual(self.check_out(0).status_code, 409)

    def test_needs_a_login(self):
        self.assertRedirects(
            self.client.post("/checkout/"), "/accounts/login/?next=/checkout/", fetch_redirect_response=False
        )


class CommitTests(TransactionTestCase):
    """What happens on commit needs a commit."""

    def test_confirmation_is_sent_after_the_commit(self):
        make_book("Atlas")
        make_order(make_customer(), atlas=1)
        self.assertEqual(len(mail.outbox), 1)

    def test_no_confirmation_without_an_order(self):
        make_book("Atlas", stock=0)
        with self.assertRaises(services.OutOfStock):
            make_order(make_customer(), atlas=1)
        self.assertEqual(mail.outbox, [])

    def test_the_second_customer_comes_too_late(self):
        make_book("Atlas", stock=1)
        make_order(make_customer("first"), atlas=1)
        with self.assertRaises(services.OutOfStock):
            make_order(make_customer("second"), atlas=1)
        self.assertEqual(Order.objects.get().customer.user.username, "first")


class StockTests(TransactionTestCase):
    def test_many_orders(self):
        make_book("Atlas", stock=20)
        customer = make_customer()
        for _ in range(20):
            make_order(customer, atlas=1)
        self.assertEqual(Book.objects.get().stock, 0)

    def test_cancelled_orders_give_back(self):
        make_book("Atlas", stock=3)
        services.cancel(make_order(make_customer(), atlas=3))
        self.assertEqual(Book.objects.get().stock, 3)


class ShopFrontTests(LiveServerTestCase):
    def get(self, path):
        with urlopen(self.live_server_url + path, timeout=20) as answer:
            return answer.read().decode()

    def test_front_page(self):
        make_book("Atlas")
        self.assertIn("Atlas", self.get("/"))

    def test_search(self):
        make_book("Atlas")
        self.assertEqual(json.loads(self.get("/api/search/?q=atlas")), {"books": ["Atlas"]})

    def test_unknown_book(self):
        with self.assertRaisesMessage(OSError, "404"):
            self.get("/books/no-such-book/")
