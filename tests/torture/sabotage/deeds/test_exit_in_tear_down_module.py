"""tearDownModule"""

import sys

from django.test import SimpleTestCase


def tearDownModule():
    sys.exit(0)


class One(SimpleTestCase):
    def test_one(self):
        """passed"""
