"""Tests that meddle with their process as far as a sequential run survives it; tests/torture/sabotage has the rest.

Each puts back what it took: the classes that follow run in the same process here, and in another one there.
"""

import builtins
import datetime
import gc
import json
import locale
import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from unittest import mock

import freezegun
import time_machine
from django.test import SimpleTestCase, TestCase

from catalog.models import Genre


class Freezegun(TestCase):
    @freezegun.freeze_time("2012-01-14")
    def test_frozen(self):
        Genre.objects.create(name="frozen")
        self.assertEqual(datetime.date.today().year, 2012)

    @freezegun.freeze_time("2012-01-14")
    def test_fails_while_frozen(self):
        self.fail(datetime.date.today())

    def test_thawed(self):
        self.assertGreater(datetime.date.today().year, 2012)


@freezegun.freeze_time("2012-01-14")
class FreezegunClass(SimpleTestCase):
    def test_frozen(self):
        self.assertEqual(time.time(), time.time())

    def test_fails_while_frozen(self):
        self.fail("frozen")


class TimeMachine(TestCase):
    @time_machine.travel(0, tick=False)
    def test_travels(self):
        Genre.objects.create(name="travels")
        self.assertEqual(time.time(), 0)

    @time_machine.travel("2099-01-01")
    def test_errs_far_away(self):
        raise ValueError(datetime.date.today())

    def test_is_back(self):
        self.assertLess(datetime.date.today().year, 2099)


class BaseExceptions(SimpleTestCase):
    """unittest takes all but KeyboardInterrupt for errors."""

    def tearDown(self):
        if "tear_down" in self._testMethodName:
            raise GeneratorExit

    def test_system_exit(self):
        sys.exit(0)

    def test_system_exit_in_a_sub_test(self):
        with self.subTest(number=1):
            sys.exit(0)

    def test_system_exit_in_a_cleanup(self):
        self.addCleanup(sys.exit, 0)

    def test_generator_exit(self):
        raise GeneratorExit

    def test_tear_down(self):
        pass


class Shown(Exception):
    def __init__(self, show):
        self.show = show

    def __str__(self):
        return self.show()

    __repr__ = __str__


class Exceptions(SimpleTestCase):
    def test_str_exits(self):
        raise Shown(sys.exit)

    def test_str_is_none(self):
        raise Shown(lambda: None)

    def test_str_of_ten_megabytes(self):
        raise Shown(lambda: "x" * 10_000_000)

    def test_repr_of_ten_megabytes_in_a_comparison(self):
        self.assertEqual(Shown(lambda: "x" * 10_000_000), 1)

    def test_a_thousand_causes(self):
        error = None
        for number in range(1000):
            new = ValueError(number)
            new.__cause__ = error
            error = new
        raise error


class Children(SimpleTestCase):
    def test_forked(self):
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 3)

    def test_forked_into_a_session_of_its_own(self):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os._exit(0)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def test_multiprocessing(self):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            self.assertEqual(pool.map(abs, [-1, -2]), [1, 2])


class Meddling(SimpleTestCase):
    def test_descriptors_redirected(self):
        for fd in (1, 2):
            copy = os.dup(fd)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, fd)
            os.close(nowhere)
            self.addCleanup(os.close, copy)
            self.addCleanup(os.dup2, copy, fd)
        os.write(1, b"unheard\n")

    def test_two_megabytes_without_a_line_end(self):
        os.write(1, b"\xff\x00" * 1_000_000)

    def test_sockets_blocked(self):
        with mock.patch("socket.socket", side_effect=OSError("blocked")), mock.patch("socket.getaddrinfo"):
            self.assertRaises(OSError, socket.socket)

    def test_fails_with_sockets_blocked(self):
        with mock.patch("socket.socket"):
            self.fail("blocked")

    def test_fails_with_functions_patched(self):
        broken = RuntimeError("patched")
        names = [(builtins, "open"), (json, "dumps"), (os, "write"), (time, "monotonic"), (threading, "Thread")]
        for thing, name in names:
            patcher = mock.patch.object(thing, name, side_effect=broken)
            patcher.start()
            self.addCleanup(patcher.stop)
        self.fail("patched")

    def test_working_directory_and_umask(self):
        self.addCleanup(os.chdir, os.getcwd())
        self.addCleanup(os.umask, os.umask(0o777))
        os.chdir("/")

    def test_environment(self):
        with mock.patch.dict(os.environ, clear=True):
            self.assertNotIn("PATH", os.environ)

    def test_time_zone(self):
        self.addCleanup(time.tzset)  # after the variable is back
        patcher = mock.patch.dict(os.environ, TZ="Pacific/Kiritimati")
        patcher.start()
        self.addCleanup(patcher.stop)
        time.tzset()

    def test_locale(self):
        self.addCleanup(locale.setlocale, locale.LC_ALL, locale.setlocale(locale.LC_ALL))
        locale.setlocale(locale.LC_ALL, "C")

    def test_temporary_folder(self):
        with mock.patch.object(tempfile, "tempdir", "/nonexistent"):
            self.assertRaises(FileNotFoundError, tempfile.mkdtemp)

    def test_path_and_random(self):
        with mock.patch.object(sys, "path", []):
            random.seed(0)
        random.seed()

    def test_limits(self):
        limits = resource.getrlimit(resource.RLIMIT_CORE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, limits)
        resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))

    def test_interpreter(self):
        self.addCleanup(sys.settrace, sys.gettrace())
        self.addCleanup(sys.setrecursionlimit, sys.getrecursionlimit())
        self.addCleanup(gc.enable)
        sys.settrace(lambda *_: None)
        sys.setrecursionlimit(10_000)
        gc.disable()

    def test_signals_that_are_handled(self):
        heard = []
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            self.addCleanup(signal.signal, number, signal.signal(number, lambda number, _: heard.append(number)))
            os.kill(os.getpid(), number)
        time.sleep(0.01)
        self.assertEqual(len(heard), 4)


def _passes(self):
    pass


LONG = type("L" + "o" * 3000 + "ng", (SimpleTestCase,), {"__module__": __name__, "test_l" + "o" * 3000 + "ng": _passes})
