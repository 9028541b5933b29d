"""Much output, binary output, output without an end."""

import os
import sys

from django.test import SimpleTestCase

MEGABYTE = 1 << 20


class Much(SimpleTestCase):
    def test_100_megabytes_on_descriptor_1(self):
        """passed"""
        os.write(1, b"the first words\n")
        block = b"x" * 79 + b"\n"
        for _ in range(100):
            os.write(1, block * (MEGABYTE // 80))
        os.write(1, b"the last words")

    def test_binary_on_descriptor_2(self):
        """passed"""
        os.write(2, b"the first words\n")
        for _ in range(20):
            os.write(2, bytes(range(256)) * (MEGABYTE // 256))
        os.write(2, b"the last words")

    def test_unterminated_on_stdout(self):
        """passed"""
        sys.stdout.write("the first words ")
        for _ in range(20):
            sys.stdout.write("y" * MEGABYTE)
        sys.stdout.write("the last words")

    def test_much_and_fails(self):
        """failed: after much"""
        sys.stderr.write("the first words\n")
        for _ in range(20):
            sys.stderr.write("z" * MEGABYTE)
        sys.stderr.write("the last words")
        self.fail("after much")

    def test_quiet(self):
        """passed"""
