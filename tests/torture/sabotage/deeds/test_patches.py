"""Functions of the standard library that tests replace, put back only when the class ends."""

import builtins
import json
import os
import sys
import threading
import time
import traceback
import warnings

from django.test import SimpleTestCase


def broken(*args, **kwargs):
    raise RuntimeError("patched")


class Patches(SimpleTestCase):
    """Each test breaks one thing more."""

    old = []

    @classmethod
    def tearDownClass(cls):
        for thing, name, value in reversed(cls.old):
            setattr(thing, name, value)
        super().tearDownClass()

    def break_(self, thing, name):
        self.old.append((thing, name, getattr(thing, name)))
        setattr(thing, name, broken)

    def test_01_open(self):
        """passed"""
        self.break_(builtins, "open")

    def test_02_json(self):
        """passed"""
        self.break_(json, "dumps")
        self.break_(json, "loads")

    def test_03_write(self):
        """passed"""
        for name in ("write", "read", "close", "getpid", "pread", "fstat", "ftruncate", "dup2"):
            self.break_(os, name)

    def test_04_clock(self):
        """passed"""
        for name in ("monotonic", "time", "clock_gettime"):
            self.break_(time, name)

    def test_05_thread(self):
        """passed"""
        self.break_(threading, "Thread")

    def test_06_exit(self):
        """passed"""
        self.break_(sys, "exit")
        self.break_(os, "_exit")
        self.break_(os, "fork")

    def test_07_warnings(self):
        """passed"""
        self.break_(warnings, "catch_warnings")

    def test_08_print(self):
        """passed"""
        print("before")
        self.break_(builtins, "print")

    def test_09_prints_and_fails(self):
        """failed: told all the same"""
        sys.stdout.write("from a patched process\n")
        self.fail("told all the same")

    def test_10_errs(self):
        """error: patched"""
        open(os.devnull)

    def test_11_traceback(self):
        """passed"""
        self.break_(traceback, "format_exception")

    def test_12_interrupts(self):
        """error: KeyboardInterrupt"""
        raise KeyboardInterrupt


class AfterPatches(SimpleTestCase):
    def test_passes(self):
        """passed"""
