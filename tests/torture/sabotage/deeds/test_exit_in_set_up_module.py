"""setUpModule"""

import sys

from django.test import SimpleTestCase


def setUpModule():
    sys.exit(0)


class One(SimpleTestCase):
    def test_one(self):
        """not_run"""


class Two(SimpleTestCase):
    def test_two(self):
        """not_run"""
