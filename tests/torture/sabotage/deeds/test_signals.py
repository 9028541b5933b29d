"""Signals to the process itself, to its group and to its parent, the loader."""

import os
import signal
import time

import guard
from django.test import SimpleTestCase


class ToItself(SimpleTestCase):
    def test_interrupt_once(self):
        """passed"""
        guard.in_a_fork()
        os.kill(os.getpid(), signal.SIGINT)  # Django's handler stops a sequential run after this test
        time.sleep(0.01)

    def test_interrupt_once_more(self):
        """passed"""
        self.test_interrupt_once()

    def test_interrupt_twice(self):
        """error: KeyboardInterrupt"""
        self.test_interrupt_once()
        self.test_interrupt_once()

    def test_interrupt_without_a_handler(self):
        """error: KeyboardInterrupt"""
        guard.in_a_fork()
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    def test_terminate(self):
        """error: process died (signal 15)"""
        guard.in_a_fork()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    def test_terminate_with_a_handler(self):
        """passed"""
        guard.in_a_fork()
        heard = []
        old = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
        self.addCleanup(signal.signal, signal.SIGTERM, old)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        self.assertEqual(heard, [1])

    def test_nothing_is_blocked(self):
        """passed"""
        self.assertEqual(signal.pthread_sigmask(signal.SIG_BLOCK, set()), set())

    def test_comes_later(self):
        """passed"""


class ToItsGroup(SimpleTestCase):
    def test_terminate(self):
        """error: process died (signal 15)"""
        guard.in_a_fork()
        os.killpg(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    def test_interrupt_twice(self):
        """error: KeyboardInterrupt"""
        guard.in_a_fork()
        for _ in range(2):
            os.killpg(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    def test_comes_later(self):
        """passed"""


class ToItsParent(SimpleTestCase):
    def tell(self, number):
        guard.in_a_fork()
        os.kill(os.getppid(), number)
        time.sleep(0.05)

    def test_terminate(self):
        """passed"""
        self.tell(signal.SIGTERM)

    def test_interrupt(self):
        """passed"""
        self.tell(signal.SIGINT)

    def test_hang_up(self):
        """passed"""
        self.tell(signal.SIGHUP)

    def test_user_signal(self):
        """passed"""
        self.tell(signal.SIGUSR1)

    def test_child_has_ended(self):
        """passed"""
        self.tell(signal.SIGCHLD)

    def test_comes_later(self):
        """passed"""
