"""The slot's handle on a fork, against loaders that do not do their part."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dct_celery.adapters.clock import SystemClock
from dct_celery.errors import ProcessDied, ProtocolError
from dct_celery.wire import messages
from dct_celery.worker.processes.test_process import FORK_SECONDS, TestProcess
from tests.support.fleet import until
from tests.support.loaders import loader
from tests.support.projects import make_project

#: Takes one order and dies with it.
_FORGETFUL = (
    "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); print('open', flush=True); "
    "os.read(fd, 4096)"
)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fork.fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "fork"
    path.mkdir()
    return path


def listen(fork: TestProcess) -> tuple[list[messages.Message], ProcessDied | ProtocolError]:
    """All that it says, and what ended it; AssertionError when it is silent for ten seconds."""
    heard = []
    try:
        while message := fork.receive(10):
            heard.append(message)
    except (ProcessDied, ProtocolError) as error:
        return heard, error
    raise AssertionError(heard)


def test_a_missing_loader_is_reported_at_once(fifo: Path, folder: Path) -> None:
    # Given a FIFO without a reader / When / Then
    with pytest.raises(ProcessDied, match="loader is gone"):
        TestProcess(folder, fifo, {}, SystemClock()).start()


def test_a_loader_that_dies_with_an_order_in_its_hands_is_noticed_long_before_the_limit(
    fifo: Path, folder: Path
) -> None:
    # Given
    with subprocess.Popen(
        [sys.executable, "-c", _FORGETFUL, str(fifo)], stdout=subprocess.PIPE
    ) as loader:
        assert loader.stdout is not None
        loader.stdout.readline()
        # When
        start = time.monotonic()
        with pytest.raises(ProcessDied, match="loader is gone"):
            TestProcess(folder, fifo, {}, SystemClock()).start()
    # Then
    assert time.monotonic() - start < FORK_SECONDS / 3


def test_a_channel_closed_by_a_test_that_goes_on_is_noticed_at_once(tmp_path: Path) -> None:
    # Given a test that closes whatever it finds, and stays
    tests = """
        import os, time
        from django.test import SimpleTestCase

        class Closes(SimpleTestCase):
            def test_all(self):
                os.closerange(3, 65536)
                time.sleep(60)
    """
    project = make_project(tmp_path / "project", tests)
    with loader(project, tmp_path / "loader") as process, process.fork() as fork:
        attached = fork.ask(messages.Attach({}, {}), messages.Attached, 60)
        assert isinstance(attached, messages.Attached)
        fork.pid = attached.pid
        # When
        start = time.monotonic()
        fork.send(messages.RunChunk("c", [0]))
        heard, error = listen(fork)
        fork.kill()
        # Then the test is known by its start, its end by its cause, and the process is gone
        assert heard[0] == messages.TestStarted(0)
        assert str(error) == "the test closed the runner's channel"
        assert time.monotonic() - start < 2
        until(
            lambda: not Path(f"/proc/{attached.pid}/cwd").exists(), 2, what="the end of the process"
        )


def test_garbage_behind_a_record_does_not_hide_the_record(tmp_path: Path) -> None:
    # Given a test that writes to every pipe of its process, and stays
    tests = """
        import os, stat, time
        from django.test import SimpleTestCase

        class Writes(SimpleTestCase):
            def test_garbage(self):
                for name in os.listdir("/proc/self/fd"):
                    try:
                        if stat.S_ISFIFO(os.fstat(int(name)).st_mode):
                            os.write(int(name), bytes([255] * 64))
                    except OSError:
                        pass
                time.sleep(60)
    """
    project = make_project(tmp_path / "project", tests)
    with loader(project, tmp_path / "loader") as process, process.fork() as fork:
        assert isinstance(
            fork.ask(messages.Attach({}, {}), messages.Attached, 60), messages.Attached
        )
        # When / Then the start of the test comes first, and the garbage needs nothing more to be
        # noticed
        fork.send(messages.RunChunk("c", [0]))
        time.sleep(0.3)  # both are there, and come with one read
        heard, error = listen(fork)
        fork.kill()
        assert heard[0] == messages.TestStarted(0)
        assert isinstance(error, ProtocolError)
