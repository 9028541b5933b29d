"""Found with `-p "check_*.py"` only."""

from django.test import SimpleTestCase


class OtherPattern(SimpleTestCase):
    def test_found_by_pattern(self):
        pass

    def test_fails(self):
        self.fail("found and failed")
