"""Time frozen by a test or class; never by both libraries at once."""

import datetime
import time

import freezegun
import guard
import time_machine
from django.test import SimpleTestCase


class Freezegun(SimpleTestCase):
    def test_frozen_by_a_block(self):
        """passed"""
        with guard.measured(), freezegun.freeze_time("2012-01-14"):  # looking through all modules takes its time
            self.assertEqual(datetime.date.today().year, 2012)
            guard.real_sleep(0.3)

    def test_thawed(self):
        """passed"""
        self.assertGreater(datetime.date.today().year, 2024)
        guard.measured_sleep(0.1)


@freezegun.freeze_time("2012-01-14")
class FreezegunClass(SimpleTestCase):
    def test_frozen_with_its_class(self):
        """passed"""
        self.assertEqual(time.monotonic(), time.monotonic())
        guard.measured_sleep(0.3)

    def test_fails_while_frozen(self):
        """failed: frozen"""
        guard.measured_sleep(0.1)
        self.fail("frozen")


class TimeMachine(SimpleTestCase):
    @time_machine.travel(0, tick=False)
    def test_travels_by_a_decorator(self):
        """passed"""
        self.assertEqual(time.time(), 0.0)
        guard.measured_sleep(0.3)

    def test_is_back(self):
        """passed"""
        self.assertGreater(datetime.date.today().year, 2024)
        guard.measured_sleep(0.1)

    @time_machine.travel("2099-01-01", tick=False)
    def test_fails_far_away(self):
        """failed: far away"""
        guard.measured_sleep(0.1)
        self.fail("far away")
