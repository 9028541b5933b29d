"""Test processes that die: the suspect is found, tried again elsewhere and blamed once.

All others keep their verdicts.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.projects import make_project

_HEAD = """
    import atexit, ctypes, os, signal, sys, threading, time
    from django.test import SimpleTestCase, TestCase

    def die(file, how):
        with open(file, "a") as log:
            log.write(os.environ["TMPDIR"] + "\\n")
        print("last words", flush=True)
        how()
"""


def deaths(file: Path) -> list[str]:
    """Where each process died: a folder of its worker."""
    return file.read_text().splitlines() if file.exists() else []


def test_one_poison_test_among_200_costs_two_processes_and_one_verdict(
    fleet: Fleet, place: Path, tmp_path: Path
) -> None:
    # Given
    log, there = tmp_path / "deaths", tmp_path / "there"
    meeting = f"""
    class Here(SimpleTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            with open({str(there)!r}, "a") as log:
                log.write(os.environ["TMPDIR"] + "\\n")

    def die_when_there_are_two(signal):
        while len(set(open({str(there)!r}))) < 2:
            time.sleep(0.05)
        die({str(log)!r}, signal)
"""
    classes = "".join(
        f"""
    class T{c:02}(Here):
"""
        + "".join(
            f"        def test_{t}(self): time.sleep(0.01)\n"
            for t in range(10)
            if (c, t) != (11, 4)
        )
        for c in range(20)
    )
    poison = (
        "\n        def test_4(self): die_when_there_are_two(lambda: ctypes.string_at(0))\n   "
        " T11.test_4 = test_4\n"
    )
    poison = poison.replace("\n        def", "\n    def")
    project = make_project(place, _HEAD + meeting + classes + poison)
    for name in ("build-a", "build-b", "build-c"):
        fleet.worker(name)
    # When
    finished = fleet.run(project)
    # Then
    assert finished.code == 1, finished
    assert Counter(finished.outcomes().values()) == {"passed": 199, "error": 1}
    died = deaths(log)
    assert len(died) == 2
    assert len({path.partition("/work/")[0] for path in died}) == 2, (
        "the second try is on another worker"
    )
    (error,) = (test for test in finished.json["tests"] if test["outcome"] == "error")
    assert error["message"] == "dct.ProcessDied: process died (signal 11)"
    assert "Fatal Python error: Segmentation fault" in finished.out
    assert "in die" in finished.out
    assert "last words" in finished.out
    assert "Memory peak: " in finished.out
    fleet.assert_tidy()


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("lambda: os._exit(0)", "process died (exit 0)"),
        ("os.abort", "process died (signal 6)"),
        ("lambda: os.kill(os.getpid(), 9)", "process killed (signal 9), memory peak "),
    ],
    ids=["exit", "abort", "kill"],
)
@pytest.mark.parametrize("where", ["test", "setUpClass"])
def test_whatever_kills_a_process_is_blamed_on_what_was_running(
    busy_fleet: Fleet, place: Path, tmp_path: Path, how: str, cause: str, where: str
) -> None:
    # Given
    log = tmp_path / "deaths"
    fatal = f"die({str(log)!r}, {how})"
    project = make_project(place, _HEAD + f"""
    class A(SimpleTestCase):
        def test_a(self): pass
    class B(SimpleTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            {fatal if where == "setUpClass" else "pass"}
        def test_b(self): {fatal if where == "test" else "pass"}
        def test_c(self): pass
    class C(SimpleTestCase):
        def test_d(self): pass
    """)  # fmt: skip
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 1, finished
    assert len(deaths(log)) == 2
    b, c = ("error", "passed") if where == "test" else ("not_run", "not_run")
    assert list(finished.outcomes().values()) == ["passed", b, c, "passed"]
    assert cause in finished.out
    assert "perhaps out of memory" not in finished.out
    assert [event["id"] for event in finished.json["fixtures"]] == ["setUpClass (test_it.B)"] * (
        where == "setUpClass"
    )
    busy_fleet.assert_tidy()


def test_two_deaths_in_a_tear_down_are_its_error(
    busy_fleet: Fleet, place: Path, tmp_path: Path
) -> None:
    # Given
    log = tmp_path / "deaths"
    project = make_project(place, _HEAD + f"""
    class A(SimpleTestCase):
        @classmethod
        def tearDownClass(cls): die({str(log)!r}, os.abort)
        def test_a(self): pass
    class B(SimpleTestCase):
        def test_b(self): pass
    """)  # fmt: skip
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 1, finished
    assert set(finished.outcomes().values()) == {"passed"}
    assert [event["id"] for event in finished.json["fixtures"]] == ["tearDownClass (test_it.A)"]
    assert len(deaths(log)) == 2
    busy_fleet.assert_tidy()


@pytest.mark.parametrize(
    ("when", "event"),
    [
        ("setUpClass", ["setUpClass (test_it.B)"]),
        ("tearDownClass", ["tearDownClass (test_it.B)"]),
    ],
)
def test_an_exit_in_a_fixture_is_its_error(
    busy_fleet: Fleet, place: Path, when: str, event: list[str]
) -> None:
    # Given
    project = make_project(place, _HEAD + f"""
    class A(SimpleTestCase):
        def test_a(self): pass
    class B(SimpleTestCase):
        @classmethod
        def {when}(cls): sys.exit(0)
        def test_b(self): pass
        def test_c(self): pass
    class C(SimpleTestCase):
        def test_d(self): pass
    """)  # fmt: skip
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 1, finished
    b = "not_run" if when == "setUpClass" else "passed"
    assert list(finished.outcomes().values()) == ["passed", b, b, "passed"]
    assert [each["id"] for each in finished.json["fixtures"]] == event
    assert "to run again: " not in finished.out + finished.err
    busy_fleet.assert_tidy()


def test_a_death_after_the_last_test_costs_no_verdict(busy_fleet: Fleet, place: Path) -> None:
    # Given: one dies at exit, one between two chunks
    project = make_project(place, _HEAD + """
    class A(SimpleTestCase):
        def test_a(self): atexit.register(os.abort)
    class B(SimpleTestCase):
        def test_b(self): threading.Timer(0.5, os._exit, [3]).start()
    class C(TestCase):
        def test_c(self): time.sleep(1)
    """)  # fmt: skip
    # When
    finished = busy_fleet.run(project, "--chunk-seconds", "0.1")
    # Then
    assert finished.code == 0, finished
    assert set(finished.outcomes().values()) == {"passed"}
    busy_fleet.assert_tidy()


def test_more_deaths_than_the_budget_end_the_run_with_7(
    busy_fleet: Fleet, place: Path, tmp_path: Path
) -> None:
    # Given
    log = tmp_path / "deaths"
    classes = "".join(
        f"    class T{n}(SimpleTestCase):\n        def test_it(self): die({str(log)!r}, os.abort)\n"
        for n in range(8)
    )
    project = make_project(place, _HEAD + classes)
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 7, finished
    assert len(deaths(log)) in (6, 7), "one may be on its way when the run is stopped"
    reason = "6 test processes died, which is more than the run may have (--crash-budget 5)"
    assert finished.messages() == {reason}
    assert reason in finished.out + finished.err
    busy_fleet.assert_tidy()


def test_a_worker_whose_loader_was_killed_prepares_the_run_again(
    fleet: Fleet, place: Path, tmp_path: Path
) -> None:
    # Given one worker, and a test that kills the process which its own was forked from, as the
    # kernel may for want of memory
    log = tmp_path / "deaths"
    kill = (
        f"if not os.path.exists({str(log)!r}): die({str(log)!r}, lambda: "
        "(os.kill(os.getppid(), signal.SIGKILL), time.sleep(60)))"
    )
    classes = "".join(
        f"""
    class T{c}(SimpleTestCase):
        def test_it(self):
            time.sleep(0.3)
            {kill if c == 1 else "pass"}
"""
        for c in range(6)
    )
    project = make_project(place, _HEAD + classes)
    fleet.worker("build-a", slots=1)
    # When
    finished = fleet.run(project, "--chunk-seconds", "0.1")
    # Then
    assert finished.code == 0, finished
    assert Counter(finished.outcomes().values()) == {"passed": 6}
    assert len(deaths(log)) == 1
    fleet.assert_tidy()
