"""A test that never ends costs its own verdict only.

The slot works again within ten seconds.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.projects import make_project

_HEAD = """
    import os, re, signal, threading, time
    from django.test import SimpleTestCase, TestCase

    def deaf():
        for number in signal.valid_signals():
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                pass
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def spins():
        deaf()
        while 1: pass

    def backtracks():
        deaf()
        re.match(r"(a+)+$", "a" * 60 + "b")

    def waits_for_a_lock():
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    def stops_itself():
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(60)
"""
_ENDLESS = ("spins", "backtracks", "waits_for_a_lock", "stops_itself")
#: Seconds from a limit to the next verdict of the slot.
_BACK = 10.0


@pytest.mark.parametrize("how", _ENDLESS)
def test_a_test_that_hangs_in_any_way_is_an_error_with_its_stack(
    busy_fleet: Fleet, place: Path, how: str
) -> None:
    # Given
    project = make_project(place, _HEAD + f"""
    class Hangs(TestCase):
        def test_a(self): print("so far", flush=True)
        def test_b(self): print("last words", flush=True); {how}()
        def test_c(self): pass
    """)  # fmt: skip
    # When
    finished = busy_fleet.run(project, "--test-timeout", "1")
    # Then
    assert finished.outcomes() == {
        f"test_it.Hangs.test_{x}": y
        for x, y in zip("abc", ("passed", "error", "passed"), strict=True)
    }
    assert finished.code == 1
    (hung,) = (test for test in finished.json["tests"] if test["outcome"] == "error")
    assert hung["message"] == "dct.TimedOut: timed out after 1 s"
    assert f"in {how}" in finished.out, finished
    assert "last words" in finished.out
    assert "to run again" not in finished.out + finished.err, "no loss is counted"
    assert finished.json["seconds"]["run"] < 1 + _BACK
    busy_fleet.assert_tidy()


@pytest.mark.parametrize(
    ("scope", "where"), [("Class", "(test_it.Hangs)"), ("Module", "(test_it)")]
)
def test_a_set_up_that_hangs_is_the_error_that_covers_its_tests(
    busy_fleet: Fleet, place: Path, scope: str, where: str
) -> None:
    # Given
    fixture = "@classmethod\n        def setUpClass(cls): " if scope == "Class" else ""
    module = "def setUpModule(): spins()" if scope == "Module" else ""
    project = make_project(place, _HEAD + f"""
    {module}
    class Hangs(SimpleTestCase):
        {fixture}{"spins()" if fixture else "pass"}
        def test_a(self): pass
        def test_b(self): pass
    """, files={"test_other.py": """
    from django.test import SimpleTestCase
    class Other(SimpleTestCase):
        def test_c(self): pass
    """})  # fmt: skip
    # When
    finished = busy_fleet.run(project, "--fixture-timeout", "5")
    # Then
    assert finished.outcomes() == {
        "test_it.Hangs.test_a": "not_run",
        "test_it.Hangs.test_b": "not_run",
        "test_other.Other.test_c": "passed",
    }
    assert finished.code == 1, finished
    (event,) = finished.json["fixtures"]
    assert (event["id"], event["outcome"]) == (f"setUp{scope} {where}", "error")
    assert "timed out after 5 s" in finished.out
    assert "in spins" in finished.out
    busy_fleet.assert_tidy()


def test_a_tear_down_that_hangs_is_an_error_and_its_tests_keep_their_verdicts(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    project = make_project(place, _HEAD + """
    class A(SimpleTestCase):
        @classmethod
        def tearDownClass(cls): spins()
        def test_a(self): pass
    class B(SimpleTestCase):
        def test_b(self): pass
    """)  # fmt: skip
    # When
    finished = busy_fleet.run(project, "--fixture-timeout", "4")
    # Then
    assert finished.outcomes() == {"test_it.A.test_a": "passed", "test_it.B.test_b": "passed"}
    assert finished.code == 1, finished
    (event,) = finished.json["fixtures"]
    assert event["id"] == "tearDownClass (test_it.A)"
    busy_fleet.assert_tidy()


def test_an_import_that_hangs_ends_the_run_with_its_stack(busy_fleet: Fleet, place: Path) -> None:
    # Given
    project = make_project(place, _HEAD + "\n    waits_for_a_lock()\n")
    # When
    start = time.monotonic()
    finished = busy_fleet.run(project, "--fixture-timeout", "3")
    # Then
    assert finished.code == 4, finished
    assert "building the suite took longer than 3 s (--fixture-timeout)" in finished.error
    assert "in waits_for_a_lock" in finished.err
    assert time.monotonic() - start < 3 + _BACK
    busy_fleet.assert_tidy()


def test_an_import_that_hangs_on_a_worker_makes_it_refuse_with_its_stack(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    first = place.parent / "imported"
    project = make_project(place, _HEAD + f"""
    try:
        open({str(first)!r}, "x").close()
    except FileExistsError:
        waits_for_a_lock()
    class A(SimpleTestCase):
        def test_a(self): pass
    """)  # fmt: skip
    # When
    finished = busy_fleet.run(project, "--fixture-timeout", "4")
    # Then
    assert finished.code in (4, 7), finished
    assert "took longer than 4 s (--fixture-timeout)" in finished.out + finished.err
    assert "in waits_for_a_lock" in finished.out + finished.err
    busy_fleet.assert_tidy()
