"""Claims about fixtures of pytest that are set up once on each host, before the loader forks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dct_celery.core.model import Outcome
from dct_celery.wire import messages
from dct_celery.wire.pytest_reports import Input
from dct_celery.worker.processes.test_process import TestProcess
from tests.support.loaders import LoaderProcess, loader

CONFTEST = """
import os
import threading
from pathlib import Path

import pytest

def note(text):
    with Path(os.environ["NOTES"]).open("a") as file:
        file.write(f"{text} {os.getpid()}\\n")

@pytest.fixture(scope="session")
def image(tmp_path_factory):
    note("image up")
    try:
        yield tmp_path_factory.mktemp("image")
    finally:
        note("image down")

@pytest.fixture(scope="session")
def server(image):
    note("server up")
    yield image
    note("server down")

@pytest.fixture(scope="session")
def broken():
    note("broken")
    raise ValueError("no server to be had")

@pytest.fixture(scope="session")
def own(server):
    note("own up")
    yield server
    note("own down")

@pytest.fixture(scope="session")
def threaded():
    event = threading.Event()
    thread = threading.Thread(target=event.wait, name="ticker", daemon=True)
    thread.start()
    yield
    event.set()
    thread.join()
"""
TESTS = """
def test_server(server):
    assert server.is_dir()

def test_own(own, server):
    assert own == server

def test_broken(broken): ...

def test_broken_again(broken): ...

def test_unused(threaded): ...
"""


@contextlib.contextmanager
def loading(folder: Path, once: str, *words: str) -> Iterator[LoaderProcess]:
    project = folder / "project"
    project.mkdir()
    (project / "pytest.ini").write_text(f"[pytest]\ndct_once = {once}\n")
    (project / "conftest.py").write_text(CONFTEST)
    (project / "test_it.py").write_text(TESTS)
    own = Input(testrunuid="7", workercount=1, mainargv=(), seed=1)
    with loader(
        project,
        folder / "run",
        *(own.argument(), "-p", "no:django", "-p", "no:cacheprovider", *words),
        variables={"NOTES": str(folder / "notes")},
        command=("-m", "pytest"),
        backend="pytest",
    ) as process:
        yield process


def outcomes(fork: TestProcess) -> list[Outcome]:
    """Of the first four tests."""
    attached = fork.ask(messages.Attach({}, {}), messages.Attached, 60)
    assert isinstance(attached, messages.Attached)
    fork.attached(attached.pid)
    fork.send(messages.RunChunk("c", [0, 1, 2, 3]))
    found = []
    while not isinstance(message := fork.receive(30), messages.ChunkFinished):
        if isinstance(message, messages.TestFinished):
            found.append(message.outcome)
    return found


def test_fixtures_are_set_up_and_torn_down_by_the_loader_alone(tmp_path: Path) -> None:
    # Given
    with loading(tmp_path, "server broken", "-k", "not unused") as process:
        # When two forks run the same tests, and end
        for _ in range(2):
            with process.fork() as fork:
                # Then what is broken fails each test that needs it
                assert outcomes(fork) == [Outcome.PASSED] * 2 + [Outcome.ERROR] * 2
        process.process.close(10.0)
    # Then: only what was not named was set up and torn down by the forks
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    in_loader = [" ".join(words) for *words, pid in notes if pid == notes[0][-1]]
    in_forks = [" ".join(words) for *words, pid in notes if pid != notes[0][-1]]
    assert in_loader == ["image up", "server up", "broken", "server down", "image down"]
    assert in_forks == ["own up", "own down"] * 2


def test_a_fixture_that_leaves_a_thread_is_one_line(tmp_path: Path) -> None:
    # Given / When
    with pytest.raises(AssertionError) as caught, loading(tmp_path, "absent threaded"):
        pass
    # Then it is the answer of the loader
    says = "dct_once: the fixture 'threaded' leaves a thread (ticker started at conftest.py:"
    assert f"message='{says}" in str(caught.value).replace('"', "'")


def test_nothing_is_set_up_that_no_selected_test_uses(tmp_path: Path) -> None:
    with loading(tmp_path, "server threaded", "-k", "broken"):
        pass
    assert not (tmp_path / "notes").exists()
