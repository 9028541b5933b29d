from django.test import SimpleTestCase, TestCase

from catalogue.factories import make_book
from orders.basket import Basket


class Session(dict):
    modified = False


class BasketTests(SimpleTestCase):
    def setUp(self):
        self.session = Session()
        self.basket = Basket(self.session)

    def test_starts_empty(self):
        self.assertEqual(len(self.basket), 0)

    def test_add(self):
        self.basket.add("engine")
        self.assertEqual(self.basket.copies, {"engine": 1})

    def test_add_again(self):
        self.basket.add("engine", 2)
        self.basket.add("engine", 3)
        self.assertEqual(len(self.basket), 5)

    def test_add_nothing(self):
        for copies in [0, -1]:
            with self.subTest(copies=copies), self.assertRaises(ValueError):
                self.basket.add("engine", copies)

    def test_remove(self):
        self.basket.add("engine")
        self.basket.remove("engine")
        self.assertEqual(len(self.basket), 0)

    def test_remove_what_is_not_there(self):
        self.basket.remove("engine")
        self.assertEqual(self.basket.copies, {})

    def test_clear(self):
        self.basket.add("engine")
        self.basket.add("atlas")
        self.basket.clear()
        self.assertEqual(len(self.basket), 0)

    def test_lives_in_the_session(self):
        self.basket.add("engine")
        self.assertEqual(len(Basket(self.session)), 1)
        self.assertTrue(self.session.modified)


class BasketViewTests(TestCase):
    def test_empty(self):
        self.assertEqual(self.client.get("/basket/").json(), {"copies": {}, "count": 0})

    def test_add(self):
        make_book("Atlas")
        self.assertEqual(self.client.post("/basket/add/atlas/", {"copies": 2}).json(), {"count": 2})

    def test_is_kept_between_requests(self):
        make_book("Atlas")
        self.client.post("/basket/add/atlas/")
        self.assertEqual(self.client.get("/basket/").json()["copies"], {"atlas": 1})

    def test_unknown_book(self):
        self.assertEqual(self.client.post("/basket/add/atlas/").status_code, 404)

    def test_get_is_not_allowed(self):
        self.assertEqual(self.client.get("/basket/add/atlas/").status_code, 405)
