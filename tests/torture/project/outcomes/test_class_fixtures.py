"""setUpClass, tearDownClass, setUpTestData and class cleanups that fail.

A TestCase fails before its super().setUpClass() or after its super().tearDownClass(): else it would leave its
transaction open and hurt later classes of the same process.
"""

import unittest

from django.test import SimpleTestCase, TestCase, TransactionTestCase

from catalog.models import Genre


class SetUpClassError(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        print("printed by setUpClass")
        raise ValueError("in setUpClass")

    def test_a(self):
        self.fail("it ran")

    def test_b(self):
        self.fail("it ran")

    @unittest.skip("not reported either")
    def test_c(self):
        self.fail("it ran")


class DatabaseSetUpClassError(TestCase):
    @classmethod
    def setUpClass(cls):
        raise AssertionError("in setUpClass")

    def test_a(self):
        self.fail("it ran")


class PlainSetUpClassError(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise ValueError("in setUpClass")

    def test_a(self):
        self.fail("it ran")


class SetUpTestDataError(TestCase):
    @classmethod
    def setUpTestData(cls):
        Genre.objects.create(name="rolled back")
        raise ValueError("in setUpTestData")

    def test_a(self):
        self.fail("it ran")


class AfterSetUpTestDataError(TestCase):
    def test_sees_nothing_of_it(self):
        self.assertEqual(Genre.objects.count(), 3)


class TearDownClassError(SimpleTestCase):
    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        raise ValueError("in tearDownClass")

    def test_a(self):
        pass

    def test_b(self):
        pass


class DatabaseTearDownClassError(TestCase):
    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        raise ValueError("in tearDownClass")

    def test_a(self):
        Genre.objects.create(name="gone afterwards")


class TransactionTearDownClassError(TransactionTestCase):
    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        raise ValueError("in tearDownClass")

    def test_a(self):
        Genre.objects.create(name="gone afterwards")


def fail(message):
    raise ValueError(message)


class ClassCleanupErrors(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for number in range(3):
            cls.addClassCleanup(fail, f"class cleanup {number}")

    def test_a(self):
        pass


class SetUpClassAndCleanupErrors(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.addClassCleanup(fail, "first cleanup")
        cls.addClassCleanup(fail, "second cleanup")
        raise ValueError("in setUpClass")

    def test_a(self):
        self.fail("it ran")


class TearDownClassAndCleanupErrors(SimpleTestCase):
    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.addClassCleanup(fail, "a cleanup")
        raise ValueError("in tearDownClass")

    def test_fails_as_well(self):
        self.fail("in the test")


class SkippedWithCleanupErrors(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.addClassCleanup(fail, "a cleanup after a skip")
        raise unittest.SkipTest("in setUpClass")

    def test_a(self):
        self.fail("it ran")


class UnpicklableSetUpClassError(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        class Local(Exception):
            pass

        raise Local("odd \x00 \ud800")

    def test_a(self):
        self.fail("it ran")


class UnknownDatabase(TestCase):
    """A typing error in `databases` is an error of setUpClass. (Written in the class body, it stops the stock run.)"""

    @classmethod
    def setUpClass(cls):
        cls.databases = {"defualt"}
        super().setUpClass()

    def test_a(self):
        self.fail("it ran")


class Base(SimpleTestCase):
    """Fails for the child class only."""

    broken = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if cls.broken:
            raise ValueError("broken child")

    def test_inherited(self):
        pass


class BrokenChild(Base):
    broken = True


class SoundChild(Base):
    pass


class OneProcessInOrder(SimpleTestCase):
    """The tests of a class run in one process, in order, and once."""

    seen = []

    def test_1(self):
        import os

        self.seen.append((1, os.getpid()))
        self.assertEqual(len(self.seen), 1)

    def test_2(self):
        import os

        self.assertEqual(self.seen, [(1, os.getpid())])
        self.seen.append((2, os.getpid()))

    def test_3(self):
        import os

        self.assertEqual(self.seen, [(1, os.getpid()), (2, os.getpid())])
