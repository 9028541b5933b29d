"""A project with threads: each test process loads it by itself, so they live in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dct_celery.wire import messages
from dct_celery.worker.processes.test_process import TestProcess
from tests.support.fleet import until, unused_port
from tests.support.loaders import LoaderProcess, loader
from tests.support.projects import make_project

#: A thread that counts, started where the project is imported.
COUNTING = """
    import threading, time
    from django.test import SimpleTestCase

    counted = []

    def count():
        while True:
            counted.append(1)
            time.sleep(0.01)

    threading.Thread(target=count, name="metrics", daemon=True).start()

    class Counting(SimpleTestCase):
        def test_it_goes_on(self):
            before = len(counted)
            time.sleep(0.2)
            self.assertGreater(len(counted), before)

        def test_it_is_one(self):
            self.assertEqual(threading.active_count(), 2)
"""
#: asgiref's own thread, from an import.
ASYNC = """
    import asyncio, threading
    from asgiref.sync import sync_to_async
    from django.test import SimpleTestCase

    async def read():
        return await sync_to_async(int)()

    asyncio.run(read())

    class Async(SimpleTestCase):
        def test_read(self):
            self.assertEqual(asyncio.run(read()), 0)
"""


def run(fork: TestProcess, count: int) -> list[messages.TestFinished]:
    attached = fork.ask(messages.Attach({}, {}), messages.Attached, 60)
    assert isinstance(attached, messages.Attached), attached
    fork.attached(attached.pid)
    fork.send(messages.RunChunk("c", list(range(count))))
    records = []
    while not isinstance(answer := fork.receive(20), messages.ChunkFinished):
        assert answer is not None, "it hangs"
        if isinstance(answer, messages.TestFinished):
            records.append(answer)
    return records


def outcomes(process: LoaderProcess) -> list[str]:
    with process.fork() as fork:
        records = run(fork, process.loaded.count)
    return [f"{record.outcome} {record.failures}" for record in records]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_threads_of_the_project_are_named_and_live_in_each_test_process(tmp_path: Path) -> None:
    # Given
    project = make_project(tmp_path / "project", COUNTING)
    with loader(project, tmp_path / "loader") as process:
        # Then
        assert process.loaded.threads == ["metrics started at test_it.py:11"]
        for _ in range(2):
            assert outcomes(process) == ["passed ()"] * 2
        with process.fork() as fork:
            run(fork, 2)
            assert parent(fork.pid) == process.process.pid


def test_a_collect_process_names_them_too(tmp_path: Path) -> None:
    # Given
    project = make_project(tmp_path / "project", COUNTING)
    # When
    with loader(project, tmp_path / "loader", collect=True) as process:
        assert process.loaded.threads == ["metrics started at test_it.py:11"]


def test_asgirefs_own_thread_is_no_reason_not_to_fork(tmp_path: Path) -> None:
    # Given
    project = make_project(tmp_path / "project", ASYNC)
    with loader(project, tmp_path / "loader") as process:
        # Then
        assert process.loaded.threads == []
        assert outcomes(process) == ["passed ()"]


def test_a_thread_that_ends_by_itself_is_none(tmp_path: Path) -> None:
    # Given
    tests = COUNTING.replace("while True:", "for _ in range(5):").replace(
        "active_count(), 2", "active_count(), 1"
    )
    project = make_project(tmp_path / "project", tests)
    # When
    with loader(project, tmp_path / "loader") as process:
        assert process.loaded.threads == []


def test_what_the_threads_of_the_loader_held_is_free_for_the_next_process(tmp_path: Path) -> None:
    # Given an import that serves a port
    port = unused_port()
    tests = f"""
        import socketserver, threading, urllib.request
        from django.test import SimpleTestCase

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"HTTP/1.0 200 OK\\r\\n\\r\\nyes")

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True

        server = Server(("127.0.0.1", {port}), Handler)
        threading.Thread(target=server.serve_forever, name="server", daemon=True).start()

        class Served(SimpleTestCase):
            def test_served(self):
                with urllib.request.urlopen("http://127.0.0.1:{port}") as answer:
                    self.assertEqual(answer.read(), b"yes")
    """
    project = make_project(tmp_path / "project", tests)
    # When
    with loader(project, tmp_path / "loader") as process:
        assert [one.partition(" ")[0] for one in process.loaded.threads] == ["server"]
        # Then
        assert outcomes(process) == ["passed ()"]
        assert outcomes(process) == ["passed ()"]


def test_a_receiver_of_post_migrate_that_starts_a_thread_ends_forking(tmp_path: Path) -> None:
    # Given
    apps = """
        import threading
        from django.apps import AppConfig
        from django.db.models.signals import post_migrate

        def fill(**options):
            if not [one for one in threading.enumerate() if one.name == "filler"]:
                wait = threading.Event().wait
                threading.Thread(target=wait, name="filler", daemon=True).start()

        class ShelfConfig(AppConfig):
            name = "shelf"
            def ready(self):
                post_migrate.connect(fill, sender=self)
    """
    tests = """
        import threading
        from django.test import TestCase

        class Filled(TestCase):
            def test_filled(self):
                self.assertIn("filler", [one.name for one in threading.enumerate()])
    """
    settings = 'INSTALLED_APPS = ["shelf.apps.ShelfConfig"]\n'
    project = make_project(
        tmp_path / "project", tests, settings=settings, files={"shelf/apps.py": apps}
    )
    template = str(tmp_path / "template")
    with loader(project, tmp_path / "loader") as process:
        assert process.loaded.threads == []
        built = process.ask(messages.Build({"default": template}), messages.Built)
        assert isinstance(built, messages.Built), built
        # When
        process.process.send(messages.MigrateAgain({"default": template}))
        assert isinstance(process.process.receive(30), messages.MigratedAgain)
        # Then
        with process.fork() as fork:
            attach = messages.Attach({"default": template}, {})
            attached = fork.ask(attach, messages.Attached, 60)
            assert isinstance(attached, messages.Attached), attached
            fork.send(messages.RunChunk("c", [0]))
            while not isinstance(answer := fork.receive(20), messages.ChunkFinished):
                assert answer is not None
                if isinstance(answer, messages.TestFinished):
                    assert answer.failures == ()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("raise OSError('busy')", "OSError: busy"),
        ("import sys; sys.exit('gone')", "exit status 1 before it came to its tests: gone"),
        ("class Other(SimpleTestCase):\n    def test_other(self): pass", "another suite than"),
    ],
)
def test_a_project_that_loads_once_only_says_so(tmp_path: Path, second: str, message: str) -> None:
    # Given
    lines = second.replace("\n", "\n        ")
    tests = (
        COUNTING
        + f"""
    import os
    if os.path.exists("loaded"):
        {lines}
    open("loaded", "w").close()
"""
    )
    project = make_project(tmp_path / "project", tests, settings=(
        f"if os.path.exists('loaded'):\n    {second}\n" if "class" not in second else ""
    ))  # fmt: skip
    with loader(project, tmp_path / "loader") as process:
        # When
        answer = process.ask(messages.Attach({}, {}), messages.Attached)
    # Then
    assert isinstance(answer, messages.Fatal), answer
    assert message in answer.message


def test_a_test_process_dies_with_its_slot_and_with_its_loader(tmp_path: Path) -> None:
    # Given
    project = make_project(tmp_path / "project", COUNTING.replace("0.2)", "60)"))
    with (
        loader(project, tmp_path / "loader") as process,
        process.fork() as first,
        process.fork() as second,
    ):
        for fork in (first, second):
            attached = fork.ask(messages.Attach({}, {}), messages.Attached, 60)
            assert isinstance(attached, messages.Attached)
            fork.attached(attached.pid)
        # When / Then
        first.kill()
        until(lambda: first.ended, 5)
        assert first.status() == "signal 9"
        process.process.kill()
        until(lambda: not os.path.exists(f"/proc/{second.pid}/cwd"), 5)
