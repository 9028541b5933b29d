"""Descriptors closed, redirected, written to."""

import os
import stat
import time

import guard
from django.test import SimpleTestCase


class LowOnes(SimpleTestCase):
    def test_closes_what_a_daemon_closes(self):
        """passed"""
        guard.in_a_fork()
        os.closerange(3, 256)

    def test_closes_the_standard_ones(self):
        """passed"""
        guard.in_a_fork()
        for fd in (0, 1, 2):
            os.close(fd)

    def test_comes_later(self):
        """failed: still told"""
        self.fail("still told")


class All(SimpleTestCase):
    def test_closes_all_and_returns(self):
        """error: process died (the test closed the runner's channel)"""
        guard.in_a_fork()
        os.closerange(3, 65536)

    def test_closes_all_and_stays(self):
        """error: process died (the test closed the runner's channel)"""
        guard.in_a_fork()
        os.closerange(3, 65536)
        time.sleep(60)

    def test_comes_later(self):
        """passed"""


class Garbage(SimpleTestCase):
    def test_writes_to_every_pipe_it_finds(self):
        """error: process died (garbage in the runner's channel"""
        guard.in_a_fork()
        for name in os.listdir("/proc/self/fd"):
            try:
                if stat.S_ISFIFO(os.fstat(int(name)).st_mode):
                    os.write(int(name), b"\xff" * 64)
            except OSError:
                pass
        time.sleep(60)

    def test_comes_later(self):
        """passed"""
