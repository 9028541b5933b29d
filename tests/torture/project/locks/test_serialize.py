"""SerializeMixin: classes of one lock file never run at the same time."""

import fcntl
import unittest

from django.test import SimpleTestCase, TestCase
from django.test.testcases import SerializeMixin

from catalog.models import Genre


class Locked(SerializeMixin):
    lockfile = __file__

    def assertLocked(self):
        with open(self.lockfile) as file, self.assertRaises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class LockedSimple(Locked, SimpleTestCase):
    def test_lock_is_held(self):
        self.assertLocked()

    def test_fails_under_the_lock(self):
        self.fail("under the lock")


class LockedDatabase(Locked, TestCase):
    def test_lock_is_held(self):
        self.assertLocked()
        self.assertEqual(Genre.objects.count(), 3)


class LockedPlain(Locked, unittest.TestCase):
    def test_lock_is_held(self):
        self.assertLocked()


class LockedRelative(SerializeMixin, SimpleTestCase):
    """Another lock, relative to the working directory."""

    lockfile = "manage.py"

    def test_runs(self):
        pass


class MissingLockFile(SerializeMixin, SimpleTestCase):
    lockfile = "no-such-lockfile"

    def test_never_runs(self):
        self.fail("it ran")
