"""Children that come back from the test they were forked in, and would run the rest of the suite a second time."""

import multiprocessing
import os
import sys
import time
import unittest

import guard
from django.test import SimpleTestCase


def wait(pid):
    """Exit status of the child."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child_work(queue):
    queue.put(os.getpid())


class Forks(SimpleTestCase):
    def test_child_passes_again(self):
        """passed"""
        guard.in_a_fork()
        pid = os.fork()
        if pid:
            self.assertEqual(wait(pid), 0)

    def test_child_fails(self):
        """passed"""
        guard.in_a_fork()
        pid = os.fork()
        if pid == 0:
            self.fail("in the child")
        self.assertEqual(wait(pid), 1)

    def test_child_exits(self):
        """passed"""
        guard.in_a_fork()
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        wait(pid)

    def test_child_is_interrupted(self):
        """passed"""
        guard.in_a_fork()
        pid = os.fork()
        if pid == 0:
            raise KeyboardInterrupt
        self.assertEqual(wait(pid), 1)

    def test_child_comes_back_late(self):
        """passed"""
        guard.in_a_fork()
        if os.fork() == 0:
            time.sleep(0.2)

    def test_daemon_comes_back(self):
        """passed"""
        guard.in_a_fork()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            return
        self.assertEqual(wait(pid), 0)

    def test_parent_fails_and_child_passes(self):
        """failed: the parent"""
        guard.in_a_fork()
        pid = os.fork()
        if pid:
            wait(pid)
            self.fail("the parent")

    @unittest.expectedFailure
    def test_both_fail_as_expected(self):
        """xfailed"""
        guard.in_a_fork()
        pid = os.fork()
        if pid:
            wait(pid)
        self.fail("expected")

    def test_child_in_a_sub_test(self):
        """passed"""
        guard.in_a_fork()
        with self.subTest(number=1):
            pid = os.fork()
        if pid:
            self.assertEqual(wait(pid), 0)

    def test_many_children(self):
        """passed"""
        guard.in_a_fork()
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                return
            self.assertEqual(wait(pid), 0)

    def test_session_of_its_own(self):
        """passed"""
        guard.in_a_fork()
        try:
            os.setsid()
        except PermissionError:
            pass  # it is the leader of one already


class ForksInSetUpClass(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        guard.in_a_fork()
        cls.child = os.fork()
        if cls.child:
            cls.status = wait(cls.child)

    def test_runs_in_both(self):
        """passed"""

    def test_runs_in_the_parent_alone(self):
        """passed"""
        self.assertTrue(self.child)
        self.assertEqual(self.status, 0)


class ForksAndFailsInSetUpClass(SimpleTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        guard.in_a_fork()
        cls.child = os.fork()
        if cls.child == 0:
            raise ValueError("in the child")
        cls.status = wait(cls.child)

    def test_only_the_child_failed(self):
        """passed"""
        self.assertEqual(self.status, 1)


class Multiprocessing(SimpleTestCase):
    def test_fork(self):
        """passed"""
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        process = context.Process(target=child_work, args=(queue,))
        process.start()
        process.join(20)
        self.assertEqual(process.exitcode, 0)
        self.assertEqual(queue.get(), process.pid)

    def test_pool(self):
        """passed"""
        with multiprocessing.get_context("fork").Pool(2) as pool:
            self.assertEqual(pool.map(abs, [-1, -2, -3]), [1, 2, 3])

    def test_spawn(self):
        """passed"""
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=abs, args=(-1,))
        process.start()
        process.join(20)
        self.assertEqual(process.exitcode, 0)
