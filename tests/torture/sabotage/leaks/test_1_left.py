"""What the tests of one chunk leave behind. Each notes what it did; `test_2_found` is the next chunk of the same process."""

import builtins
import gc
import json
import locale
import os
import random
import resource
import signal
import sys
import threading
import time

import guard
from django.test import SimpleTestCase

#: Names of what was done in this process.
LEFT = set()
#: Recorded when the module is imported, in the loader.
FIRST = {
    "cwd": os.getcwd(),
    "umask": os.umask(0o22),
    "path": list(sys.path),
    "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
    "recursion": sys.getrecursionlimit(),
    "locale": locale.setlocale(locale.LC_ALL),
    "zone": time.tzname,
    "handler": signal.getsignal(signal.SIGTERM),
}
os.umask(FIRST["umask"])


def broken(*args, **kwargs):
    raise RuntimeError("patched")


class Leaves(SimpleTestCase):
    def setUp(self):
        guard.in_a_fork()
        LEFT.add(self._testMethodName.removeprefix("test_"))

    def test_cwd(self):
        """passed"""
        os.chdir("/")

    def test_environ(self):
        """passed"""
        os.environ["LEAKED"] = "1"
        os.environ.pop("PATH", None)

    def test_umask(self):
        """passed"""
        os.umask(0o777)

    def test_handlers(self):
        """passed"""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, lambda *_: None)

    def test_path(self):
        """passed"""
        sys.path.insert(0, "/leaked")
        del sys.path[2:]

    def test_locale(self):
        """passed"""
        locale.setlocale(locale.LC_ALL, "C")

    def test_zone(self):
        """passed"""
        os.environ["TZ"] = "Pacific/Kiritimati"
        time.tzset()

    def test_limits(self):
        """passed"""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))

    def test_trace(self):
        """passed"""
        sys.settrace(lambda *_: None)
        threading.settrace(lambda *_: None)

    def test_collector(self):
        """passed"""
        gc.disable()

    def test_recursion(self):
        """passed"""
        sys.setrecursionlimit(100_000)

    def test_random(self):
        """passed"""
        random.seed(0)

    def test_stdout(self):
        """passed"""
        sys.stdout.close()
        sys.stderr.detach()
        sys.stdout = sys.stderr = None

    def test_descriptors(self):
        """passed"""
        os.close(0)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)

    def test_temporary_folder(self):
        """passed"""
        folder = os.environ["TMPDIR"]
        self.assertIn("/dct-fork-", folder)
        os.rmdir(folder)  # empty, or this fails

    def test_zz_patches(self):
        """passed"""
        for thing, names in {
            builtins: ["open"],
            json: ["dumps", "loads"],
            os: ["write", "read", "fstat", "pread", "getpid"],
            time: ["monotonic"],
            threading: ["Thread"],
        }.items():
            for name in names:
                setattr(thing, name, broken)
