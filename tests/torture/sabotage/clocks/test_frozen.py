"""Time is frozen in the whole process, the loader included, and stays so."""

import datetime
import time

import guard
from django.test import SimpleTestCase, TestCase


class Frozen(TestCase):
    def test_is_frozen(self):
        """passed"""
        self.assertEqual(datetime.date.today(), datetime.date(2012, 1, 14))
        self.assertEqual(time.time(), time.time())
        guard.measured_sleep(0.3)

    def test_fails(self):
        """failed: in 2012"""
        guard.measured_sleep(0.1)
        self.fail("in 2012")


class Long(SimpleTestCase):
    def test_outlives_the_lease(self):
        """passed"""
        guard.measured_sleep(2.5)


class Later(SimpleTestCase):
    def test_is_still_frozen(self):
        """passed"""
        self.assertEqual(datetime.date.today().year, 2012)
        guard.measured_sleep(0.1)
