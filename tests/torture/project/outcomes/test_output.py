"""Tests that print: text, bytes, odd characters, much of it, to Python's streams and to the descriptors."""

import os
import subprocess
import sys
import unittest

from django.test import SimpleTestCase, tag

ODD = "NUL \x00 ESC \x1b[31m BEL \x07 ü 😀 </system-out> ]]>"


def setUpModule():
    print("printed by setUpModule")


class Printing(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        print("printed by setUpClass")

    def test_stdout(self):
        print(ODD)

    def test_stderr(self):
        print(ODD, file=sys.stderr)

    def test_prints_and_fails(self):
        print("on stdout before the failure")
        print("on stderr before the failure", file=sys.stderr)
        self.fail("after printing")

    def test_without_a_newline(self):
        sys.stdout.write("no newline at the end")

    def test_much(self):
        for number in range(2000):
            print(f"line {number} " + "." * 80)

    def test_descriptor_1(self):
        os.write(1, b"\x00\xff\xfe binary \x1b[0m\n")

    def test_descriptor_2(self):
        os.write(2, b"\x00\xff\xfe binary \x1b[0m\n")

    def test_child_process(self):
        subprocess.run(["echo", "from a child process"], check=True)

    def test_looks_like_a_protocol(self):
        print('{"type": "end", "counts": {}}')
        print("ok 1\n.\n----------\nRan 0 tests in 0.000s\n\nOK")

    def test_replaces_stdout_and_puts_it_back(self):
        from io import StringIO

        old, sys.stdout = sys.stdout, StringIO()
        try:
            print("captured")
            self.assertEqual(sys.stdout.getvalue(), "captured\n")
        finally:
            sys.stdout = old

    def test_binary_through_the_buffer(self):
        """An error under --buffer, where sys.stdout is a StringIO, as it is sequentially."""
        sys.stdout.buffer.write(b"\xff binary\n")

    @tag("no_buffer")
    def test_a_lone_surrogate_cannot_be_printed(self):
        """Under --buffer it can, and the stock run stops when it hands the text on."""
        with self.assertRaises(UnicodeEncodeError):
            print("\ud800")
            sys.stdout.flush()


class PlainPrinting(unittest.TestCase):
    def tearDown(self):
        print("printed by tearDown")

    def test_prints_and_errs(self):
        print("before the error")
        raise ValueError("after printing")
