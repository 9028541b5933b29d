"""What keeps a deed from reaching anybody but the test process that was forked for it."""

import contextlib
import ctypes
import os
from pathlib import Path


def in_a_fork():
    """AssertionError unless this process is a fork of our own loader, alone in its session and group."""
    assert os.environ.get("DCT_TEST_PROCESS") == "1", "not a test process"
    assert os.environ.get("DCT_SLOT"), "not in a slot"
    assert os.getpid() == os.getpgid(0) == os.getsid(0), "not alone in its group"
    parent = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    assert b"dct_celery.testproc.main" in parent, "the parent is not our loader"


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


_libc = ctypes.CDLL(None)


def real_seconds():
    """CLOCK_MONOTONIC straight from the C library, which nobody freezes."""
    spec = _Timespec()
    assert _libc.clock_gettime(1, ctypes.byref(spec)) == 0
    return spec.seconds + spec.nanoseconds / 1e9


@contextlib.contextmanager
def measured():
    """Prints how long the block took, for the run's report to be compared with."""
    start = real_seconds()
    yield
    print(f"measured {real_seconds() - start:.6f}")


def real_sleep(seconds):
    _libc.usleep(int(seconds * 1e6))


def measured_sleep(seconds):
    with measured():
        real_sleep(seconds)
