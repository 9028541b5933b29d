"""Found by the package's load_tests only."""

from django.test import SimpleTestCase


class Cases(SimpleTestCase):
    def test_a(self):
        pass
