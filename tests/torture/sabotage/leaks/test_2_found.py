"""What the next chunk finds in a process where `test_1_left` ran. Tests without a phase's rules run after all others."""

import gc
import locale
import os
import resource
import signal
import sys
import time
import unittest

from leaks.test_1_left import FIRST, LEFT


class Finds(unittest.TestCase):
    """Whatever was left is as it was when the process began, and was left in this process."""

    def setUp(self):
        self.assertIn(self._testMethodName.removeprefix("test_"), LEFT, "nothing was left in this process")

    def test_cwd(self):
        """passed"""
        self.assertEqual(os.getcwd(), FIRST["cwd"])

    def test_environ(self):
        """passed"""
        self.assertNotIn("LEAKED", os.environ)
        self.assertIn("PATH", os.environ)

    def test_umask(self):
        """passed"""
        found = os.umask(FIRST["umask"])
        self.assertEqual(found, FIRST["umask"])

    def test_handlers(self):
        """passed"""
        self.assertEqual(signal.getsignal(signal.SIGTERM), FIRST["handler"])
        self.assertEqual(signal.getsignal(signal.SIGALRM), signal.SIG_DFL)

    def test_path(self):
        """passed"""
        self.assertEqual(sys.path, FIRST["path"])

    def test_locale(self):
        """passed"""
        self.assertEqual(locale.setlocale(locale.LC_ALL), FIRST["locale"])

    def test_zone(self):
        """passed"""
        self.assertEqual(time.tzname, FIRST["zone"])

    def test_limits(self):
        """passed"""
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), FIRST["limit"])

    def test_trace(self):
        """passed"""
        self.assertIsNone(sys.gettrace())

    def test_collector(self):
        """passed"""
        self.assertTrue(gc.isenabled())

    def test_recursion(self):
        """passed"""
        self.assertEqual(sys.getrecursionlimit(), FIRST["recursion"])

    def test_stdout(self):
        """passed"""
        print("heard on stdout")
        print("heard on stderr", file=sys.stderr)

    def test_descriptors(self):
        """passed"""
        self.assertEqual(os.readlink("/proc/self/fd/0"), os.devnull)
        self.assertEqual(os.readlink("/proc/self/fd/1"), os.readlink("/proc/self/fd/2"))
        self.assertNotEqual(os.readlink("/proc/self/fd/1"), os.devnull)

    def test_temporary_folder(self):
        """passed"""
        self.assertTrue(os.path.isdir(os.environ["TMPDIR"]))

    def test_zz_patches(self):
        """failed: told all the same"""
        self.fail("told all the same")
