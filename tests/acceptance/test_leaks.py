"""What tests leave behind costs no verdict, is reported, and is gone before the run is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.fleet import Fleet, until
from tests.support.projects import make_project

_TESTS = """
    import os, subprocess, threading, time
    from unittest import TestCase

    LEFT = []

    def note(text):
        with open(os.environ["NOTES"], "a") as file:
            file.write(f"{text}\\n")

    class A(TestCase):
        def setUp(self):
            time.sleep(0.03)  # the kernel's clock for starts ticks every 10 ms
            self.addCleanup(time.sleep, 0.03)

        def test_before(self):
            pass

        def test_leaves(self):
            LEFT.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
            note(LEFT[0].pid)
            threading.Thread(target=time.sleep, args=(600,), name="lingers").start()
            os.environ["LEFT"] = "1"

    class B(TestCase):
        def test_has_a_cache_and_a_temporary_folder_of_its_own(self):
            cache = os.environ["XDG_CACHE_HOME"]
            with open(os.path.join(cache, "new"), "x"):
                pass
            self.assertFalse(os.path.exists(os.path.expanduser("~/.cache/new")))
            self.assertNotEqual(os.path.dirname(os.environ["TMPDIR"]), cache)
"""
_LONG = """
    import os, subprocess, time
    from unittest import TestCase

    class A(TestCase):
        def test_leaves(self):
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)
            with open(os.environ["NOTES"], "w") as file:
                file.write(str(child.pid))
            time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_what_a_test_leaves_is_ended_and_reported_and_costs_no_verdict(
    fleet: Fleet, tmp_path: Path
) -> None:
    # Given
    notes = tmp_path / "notes"
    project = make_project(tmp_path / "project", _TESTS, settings="DATABASES = {}")
    fleet.worker(slots=1, NOTES=str(notes))
    # When
    finished = fleet.run(project)
    # Then
    assert finished.code == 0, str(finished)
    assert set(finished.outcomes().values()) == {"passed"}
    pid = int(notes.read_text())
    assert gone(pid)
    leaks = {leak["kind"]: leak for leak in finished.json["leaks"]}
    assert set(leaks) == {"process", "thread", "state"}
    assert leaks["process"]["what"] == f"{pid}, sleep 600"
    assert leaks["process"]["by"] == "test_it.A.test_leaves"
    assert (leaks["thread"]["by"], leaks["state"]["by"]) == ("test_it.A", "test_it.A")
    text = finished.out + finished.err
    assert text.count("was left running by test_it.A.test_leaves; it was ended") == 1
    assert text.count("environ was left changed by test_it.A") == 1


def test_what_a_killed_worker_leaves_is_ended_when_it_starts_again(
    fleet: Fleet, tmp_path: Path
) -> None:
    # Given a worker that dies with its loader in the middle of a test, so that nothing can end what
    # the test has left
    notes = tmp_path / "notes"
    project = make_project(tmp_path / "project", _LONG, settings="DATABASES = {}")
    worker = fleet.worker(slots=1, NOTES=str(notes))
    running = fleet.start(project)
    until(lambda: notes.exists() and notes.read_text(), what="the test")
    pid = int(notes.read_text())
    os.killpg(worker.process.pid, signal.SIGSTOP)
    others = set(fleet.test_processes()) - {pid}
    # All at once: whichever lives on would end what the others left.
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for other in others:
            os.kill(other, signum)
    os.killpg(worker.process.pid, signal.SIGKILL)
    worker.wait()
    assert not gone(pid)
    # When it is started again on the same folder
    running.interrupt()
    try:
        fleet.worker("build-b", slots=1, DCT_WORK_DIR=str(worker.folder), NOTES=str(notes))
        # Then
        until(lambda: gone(pid), 5.0, what="its end")
    finally:
        running.finish()
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)
