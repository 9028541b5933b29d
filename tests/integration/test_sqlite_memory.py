"""Claims about SQLite databases in memory that several threads use.

A real loader, no worker or store.
"""

from __future__ import annotations

from pathlib import Path

from dct_celery.wire import messages
from tests.support.loaders import loader
from tests.support.projects import make_project

_TESTS = """
    import gc, os, threading
    from django.db import connection
    from django.test import TransactionTestCase
    from shelf.models import Book

    def note(text):
        with open(os.environ["NOTES"], "a") as file:
            file.write(f"{text}\\n")

    def count_in_a_thread():
        thread = threading.Thread(target=lambda: note(Book.objects.count()))
        thread.start()
        thread.join()

    class Collects(TransactionTestCase):
        available_apps = ["shelf"]  # the flush looks for tables that refer to its own, with REGEXP

        def test_it(self):
            Book.objects.create(title="one")
            count_in_a_thread()
            connection.connection.create_function("REGEXP", 2, lambda *_: bool(gc.collect() + 1))
            self.assertEqual(Book.objects.filter(title__regex="o").count(), 1)

    class Looks(TransactionTestCase):
        def test_it(self):
            from dct_celery.testproc.django import sqlite_memory
            gc.collect()
            sqlite_memory.close_abandoned()
            note(len(sqlite_memory._held))
            # A connection of its own keeps the memory; an abandoned one must not be collected
            # during a query
            count_in_a_thread()
            gc.collect()
            sqlite_memory.close_abandoned()
            connection.connection.create_function("REGEXP", 2, lambda *_: bool(gc.collect() + 1))
            Book.objects.create(title="one")
            self.assertEqual(Book.objects.filter(title__regex="o").count(), 1)
"""


def test_a_connection_of_an_ended_thread_is_not_closed_in_the_middle_of_a_query(
    tmp_path: Path,
) -> None:
    # Given a thread that used the database in memory and has ended, and garbage that is collected
    # while SQLite matches a pattern
    notes = tmp_path / "notes"
    project = make_project(tmp_path / "project", _TESTS)
    template = str(tmp_path / "template.sqlite3")
    with loader(project, tmp_path / "run", variables={"NOTES": str(notes)}) as process:
        assert isinstance(
            process.ask(messages.Build({"default": template}), messages.Built), messages.Built
        )
        with process.fork() as fork:
            assert isinstance(
                fork.ask(messages.Attach({"default": template}, {}), messages.Attached, 60),
                messages.Attached,
            )
            # When
            fork.send(messages.RunChunk("c1", [0, 1]))
            outcomes = []
            while (answer := fork.receive(10)) and not isinstance(answer, messages.ChunkFinished):
                outcomes += [answer.outcome] if isinstance(answer, messages.TestFinished) else []
            # Then it ends, where SQLite would wait for itself, and the connection is closed after
            # the class
            assert outcomes == ["passed", "passed"]
            assert notes.read_text().split() == ["1", "1", "0"]
