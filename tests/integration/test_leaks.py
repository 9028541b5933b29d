"""Claims about what tests leave behind: found, reported, ended or restored.

Real loaders, real processes, no worker or store.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dct_celery.adapters.clock import SystemClock
from dct_celery.core.run.leaks import LeakRecord
from dct_celery.errors import ProcessDied
from dct_celery.wire import messages
from dct_celery.worker.processes.leaks import leaks_of, wears_out
from dct_celery.worker.processes.strays import end_marked
from dct_celery.worker.processes.test_process import TestProcess
from tests.support.loaders import LoaderProcess, loader
from tests.support.projects import make_project

#: What each class leaves; `Looks` is in the next chunk. `note` passes what it saw to
#: the test outside.
_TESTS = """
    import decimal, gc, locale, os, resource, signal, socket, subprocess, sys, threading, time
    from concurrent.futures import ThreadPoolExecutor
    from multiprocessing import resource_tracker
    from unittest import TestCase

    STARTED = []

    def note(text):
        with open(os.environ["NOTES"], "a") as file:
            file.write(f"{text}\\n")

    def daemon(*, exec_):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                note(os.getpid())
                for fd in range(4096):
                    try:
                        os.close(fd)
                    except OSError:
                        pass
                if exec_:
                    os.execv("/bin/sleep", ["sleep", "60"])
                time.sleep(60)
            os._exit(0)
        os.wait()
        time.sleep(0.05)

    class Slow(TestCase):
        # The kernel's clock for starts ticks every 10 ms.
        def setUp(self):
            time.sleep(0.03)
            self.addCleanup(time.sleep, 0.03)

    class Child(Slow):
        def test_it(self):
            child = subprocess.Popen(["sleep", "60"], start_new_session=True)
            note(child.pid)
            STARTED.append(child)

    class Bare(Slow):
        def test_it(self):
            child = subprocess.Popen(["sleep", "60"], start_new_session=True, env={})
            note(child.pid)
            STARTED.append(child)

    class Deaf(Slow):
        def test_it(self):
            child = subprocess.Popen(
                ["sh", "-c", "trap '' TERM; touch $NOTES.deaf; while :; do sleep 0.1; done"],
                start_new_session=True,
            )
            note(child.pid)
            STARTED.append(child)
            while not os.path.exists(os.environ["NOTES"] + ".deaf"):
                time.sleep(0.01)

    class Quiet(TestCase):
        def test_it(self):
            STARTED.append(subprocess.Popen(["sleep", "60"]))
            note(STARTED[-1].pid)

    class Sleeps(TestCase):
        def test_it(self):
            time.sleep(60)

    class Grows(TestCase):
        def test_it(self):
            STARTED.append(b"x" * (600 << 20))

    class ForkedDaemon(Slow):
        def test_it(self):
            daemon(exec_=False)

    class ExecutedDaemon(Slow):
        def test_it(self):
            daemon(exec_=True)

    class Crashed(TestCase):
        def test_it(self):
            daemon(exec_=True)
            os.kill(os.getpid(), signal.SIGKILL)

    class Thread(TestCase):
        def test_it(self):
            threading.Thread(target=time.sleep, args=(60,), name="lingers").start()

    class Port(TestCase):
        def test_it(self):
            STARTED.append(socket.create_server(("127.0.0.1", 0)))

    class Tidy(TestCase):
        def test_it(self):
            subprocess.run(["true"])
            subprocess.Popen(["sleep", "0.02"])
            threading.Thread(target=time.sleep, args=(0.02,)).start()
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            socket.create_server(("127.0.0.1", 0)).close()
            pool = ThreadPoolExecutor()
            pool.submit(int).result()
            STARTED.append(pool)
            resource_tracker.ensure_running()

    class State(TestCase):
        def test_it(self):
            os.chdir("/")
            os.umask(0)
            os.environ.update(LEAKED="1", PATH="/nowhere")
            del os.environ["GIVEN"]
            sys.path.insert(0, "/leaked")
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 60)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            sys.stdout = open(os.devnull, "w")
            gc.disable()
            sys.setrecursionlimit(5000)
            sys.settrace(lambda *_: None)
            decimal.getcontext().prec = 3
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
            socket.setdefaulttimeout(1)

    class Looks(TestCase):
        def test_it(self):
            note("/" != os.getcwd())
            note(os.umask(0o22) != 0)
            environ = os.environ
            note(
                "LEAKED" not in environ
                and environ["PATH"] != "/nowhere"
                and environ["GIVEN"] == "yes"
            )
            note(os.popen("echo $GIVEN$LEAKED").read() == "yes\\n")
            note("/leaked" not in sys.path)
            note(
                signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
                and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
            )
            note(signal.pthread_sigmask(signal.SIG_BLOCK, []) == set())
            note(
                sys.stdout is sys.__stdout__
                and gc.isenabled()
                and sys.getrecursionlimit() == 1000
            )
            note(socket.getdefaulttimeout() is None)
            note(sys.gettrace() is None and decimal.getcontext().prec == 28)

    class Imports(TestCase):
        def test_it(self):
            import late
            os.environ["PATH"] = "/nowhere"

    class LooksAtImports(TestCase):
        def test_it(self):
            import latest
            note(os.environ["LATE"] == "1" and os.environ["PATH"] != "/nowhere")

    class Score(TestCase):
        def test_it(self):
            note(open("/proc/self/oom_score_adj").read().strip())
"""
_FILES = {
    "late.py": (
        "import os, sys\nos.environ['LATE'] = '1'\nsys.path.append(os.path.abspath('vendored'))\n"
    ),
    "vendored/latest.py": "",
}
#: The order of the manifest.
_CLASSES = sorted(set(re.findall(r"class (\w+)", _TESTS)) - {"Slow"})


class Leak(NamedTuple):
    kind: str
    what: str
    by: str


def _between(leak: LeakRecord) -> str:
    assert leak.first is not None
    assert leak.last is not None
    first, last = _CLASSES[leak.first], _CLASSES[leak.last]
    return first if first == last else f"{first} to {last}"


class Scene:
    """The project above with its loader, and a fork that runs chunks."""

    def __init__(self, process: LoaderProcess, notes: Path, folder: Path) -> None:
        self._process = process
        #: Of the run: those of its forks are in it.
        self.folder = folder
        self._notes = notes
        #: The last chunk left something that ends the use of its process.
        self.worn = False

    @contextlib.contextmanager
    def fork(self) -> Iterator[TestProcess]:
        with self._process.fork() as fork:
            attached = fork.ask(messages.Attach({}, {}), messages.Attached, 60)
            assert isinstance(attached, messages.Attached), attached
            fork.attached(attached.pid)
            yield fork

    def run(self, fork: TestProcess, *classes: str) -> list[Leak]:
        """Leaks of a chunk of these classes, all of which pass."""
        leaks = leaks_of(
            fork,
            [_CLASSES.index(name) for name in classes],
            self.chunk(fork, *classes),
            SystemClock(),
        )
        self.worn = wears_out(fork, leaks)
        return [Leak(one.kind, one.what, one.by or _between(one)) for one in leaks]

    def chunk(self, fork: TestProcess, *classes: str) -> messages.ChunkFinished:
        fork.send(messages.RunChunk("c1", [_CLASSES.index(name) for name in classes]))
        while not isinstance(answer := fork.receive(30), messages.ChunkFinished):
            assert not isinstance(answer, messages.Fatal), answer
            if isinstance(answer, messages.TestFinished):
                assert answer.outcome == "passed", answer
        return answer

    def notes(self) -> list[str]:
        return self._notes.read_text().split()

    def end_loader(self) -> None:
        os.killpg(self._process.process.pid, signal.SIGKILL)
        while self._process.process.alive():
            time.sleep(0.01)

    def close_loader(self) -> None:
        self._process.process.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = "DATABASES = {}\nINSTALLED_APPS = []"
    return make_project(
        tmp_path_factory.mktemp("leaks") / "project", _TESTS, settings=settings, files=_FILES
    )


@pytest.fixture
def scene(project: Path, tmp_path: Path) -> Iterator[Scene]:
    notes = tmp_path / "notes"
    with loader(
        project, tmp_path / "run", variables={"NOTES": str(notes), "GIVEN": "yes"}
    ) as process:
        yield Scene(process, notes, tmp_path / "run")


def _until_finished(fork: TestProcess, name: str) -> None:
    fork.send(messages.RunChunk("c1", [_CLASSES.index(name), _CLASSES.index("Sleeps")]))
    while not isinstance(fork.receive(10), messages.TestFinished):
        pass


def _gone(pid: int) -> bool:
    """Within two seconds."""
    if _ends(pid, 2.0):
        return True
    os.kill(pid, signal.SIGKILL)
    return False


def _ends(pid: int, seconds: float) -> bool:
    """It is gone, or dead and not waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("name", ["Child", "Bare", "Deaf", "ForkedDaemon", "ExecutedDaemon"])
def test_a_process_that_a_test_leaves_is_reported_with_its_test_and_ended(
    scene: Scene, name: str
) -> None:
    # Given a chunk whose other classes leave nothing
    with scene.fork() as fork:
        # When
        (leak,) = scene.run(fork, "Tidy", name, "Score")
        # Then it is gone while its fork still lives
        pid = int(scene.notes()[0])
        assert _gone(pid)
    assert leak.kind == "process"
    assert leak.what.startswith(f"{pid}, ")
    assert leak.by == name
    assert scene.worn


def test_a_process_from_before_the_first_test_is_no_stray(scene: Scene) -> None:
    # Given a process that was there when the fork was ready
    with scene.fork() as fork:
        scene.chunk(fork, "Quiet")
        fork.attached(fork.pid)
        # When / Then
        assert scene.run(fork, "Score") == []
        assert not _ends(int(scene.notes()[0]), 0.2)


def test_a_daemon_does_not_outlive_a_test_process_that_crashed(scene: Scene) -> None:
    # Given
    with scene.fork() as fork:
        # When
        with contextlib.suppress(ProcessDied):
            scene.run(fork, "Crashed")
        # Then
        assert fork.status() == "signal 9"
        assert _gone(int(scene.notes()[0]))


def test_a_daemon_does_not_outlive_a_test_process_that_its_slot_ended(scene: Scene) -> None:
    # Given a daemon that ignores SIGTERM, and a chunk that is not over
    with scene.fork() as fork:
        _until_finished(fork, "Deaf")
        # When
        fork.kill()
        # Then
        assert _gone(int(scene.notes()[0]))


def test_a_daemon_does_not_outlive_the_run(scene: Scene) -> None:
    # Given
    with scene.fork() as fork:
        _until_finished(fork, "ExecutedDaemon")
        # When the loader's channel closes
        scene.close_loader()
    # Then
    assert _gone(int(scene.notes()[0]))


@pytest.mark.parametrize("name", ["Child", "ForkedDaemon", "ExecutedDaemon"])
def test_a_daemon_does_not_outlive_a_loader_that_was_killed(scene: Scene, name: str) -> None:
    # Given
    with scene.fork() as fork:
        _until_finished(fork, name)
        scene.end_loader()
        # When the slot ends the fork
        fork.kill()
    # Then
    assert _gone(int(scene.notes()[0]))


@pytest.mark.parametrize("name", ["Child", "ForkedDaemon", "ExecutedDaemon"])
def test_what_a_killed_worker_left_is_ended_by_the_next_one(scene: Scene, name: str) -> None:
    # Given a loader that died with its worker, so that nothing ended what tests left
    with scene.fork() as fork:
        _until_finished(fork, name)
        scene.end_loader()
        pid = int(scene.notes()[0])
        assert not _ends(pid, 0.3)
        # When
        ended = end_marked(scene.folder, SystemClock())
        # Then
        assert ended == 1
        assert _gone(pid)


def test_a_thread_that_a_test_leaves_is_reported_with_its_class(scene: Scene) -> None:
    with scene.fork() as fork:
        assert scene.run(fork, "Thread", "Score") == [("thread", "lingers", "test_it.Thread")]
        assert scene.worn


def test_a_listening_socket_that_a_test_leaves_is_reported_with_its_class(scene: Scene) -> None:
    with scene.fork() as fork:
        (leak,) = scene.run(fork, "Port", "Score")
        assert scene.worn
    assert (leak.kind, leak.by) == ("port", "test_it.Port")
    assert leak.what.startswith("127.0.0.1:")


def test_what_ends_soon_or_belongs_to_python_is_no_leak(scene: Scene) -> None:
    # Given processes and threads about to end, daemon threads, an idle pool, the helper of
    # multiprocessing
    with scene.fork() as fork:
        # When / Then
        assert scene.run(fork, "Tidy") == []
        assert not scene.worn


def test_a_changed_state_is_reported_and_restored_for_the_next_chunk(scene: Scene) -> None:
    # Given
    with scene.fork() as fork:
        # When
        leaks = scene.run(fork, "State", "Score")
        assert not scene.worn
        assert scene.run(fork, "Looks") == []
    # Then
    parts = [
        "cwd",
        "umask",
        "environ",
        "sys.path",
        "timers",
        "signal handlers",
        "signal mask",
        "sys.stdin, sys.stdout, sys.stderr",
        "limits",
        "recursion limit",
        "garbage collector",
        "trace function",
        "decimal context",
        "socket time-out",
    ]
    assert leaks == [("state", part, "test_it.State") for part in parts]
    assert scene.notes()[1:] == ["True"] * 10


def test_what_an_import_may_have_added_stays(scene: Scene) -> None:
    # Given a module that adds to environment and path when it is first imported, by a test
    with scene.fork() as fork:
        # When
        leaks = scene.run(fork, "Imports")
        scene.run(fork, "LooksAtImports")
    # Then
    assert leaks == [
        ("state", "environ", "test_it.Imports"),
        (
            "state",
            "sys.path (kept, since a module that was imported meanwhile may need it)",
            "test_it.Imports",
        ),
    ]
    assert scene.notes() == ["True"]


def test_a_process_that_grew_far_is_not_used_again(scene: Scene) -> None:
    with scene.fork() as fork:
        assert scene.run(fork, "Grows") == []
        assert scene.worn


def test_test_processes_are_the_first_to_go_when_memory_is_short(scene: Scene) -> None:
    # Given
    with open("/proc/self/oom_score_adj") as file:
        own = int(file.read())
    # When
    with scene.fork() as fork:
        scene.run(fork, "Score")
    # Then
    assert scene.notes() == [str(min(own + 500, 1000))]
