"""Projects with threads and executors from their imports end as in the sequential run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.projects import make_project

TESTS = """
    import asyncio, threading, time
    from concurrent.futures import ThreadPoolExecutor
    from asgiref.sync import sync_to_async
    from django.test import SimpleTestCase, TestCase
    from shelf.models import Book

    counted = []
    pool = ThreadPoolExecutor(2)
    pool.submit(int).result()

    def count():
        while True:
            counted.append(1)
            time.sleep(0.01)

    async def read():
        return await sync_to_async(int)()

    threading.Thread(target=count, name="metrics", daemon=True).start()
    asyncio.run(read())

    class Counting(SimpleTestCase):
        def test_it_goes_on(self):
            before = len(counted)
            time.sleep(0.2)
            self.assertGreater(len(counted), before)

    class Pooled(TestCase):
        def test_a_pool_answers(self):
            Book.objects.create(title="one")
            self.assertEqual(pool.submit(int, "7").result(timeout=5), 7)

    class Async(SimpleTestCase):
        def test_asgiref_answers(self):
            self.assertEqual(asyncio.run(asyncio.wait_for(read(), 5)), 0)
"""


def test_threads_and_executors_of_imports_work_in_every_test(fleet: Fleet, place: Path) -> None:
    # Given
    project = make_project(place, TESTS)
    stock = subprocess.run(
        [sys.executable, "-m", "django", "test", "--settings=site_settings"],
        cwd=project,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert stock.returncode == 0, stock.stderr
    for name in ("build-a", "build-b"):
        fleet.worker(name, slots=2)
    # When
    finished = fleet.run(project, "--chunk-seconds", "0.1", "--test-timeout", "20")
    # Then
    assert finished.code == 0, finished
    assert list(finished.outcomes().values()) == ["passed"] * 3
    warning = next(line for line in finished.err.splitlines() if "not forked" in line)
    assert "metrics started at test_it.py:19" in warning
    assert "ThreadPoolExecutor-1_0 started at test_it.py:9" in warning
    assert "asyncio" not in warning
    fleet.assert_tidy()


def test_a_project_that_can_be_imported_once_only_says_why(busy_fleet: Fleet, place: Path) -> None:
    # Given a second import that fails
    settings = "if os.environ.get('DCT_SLOT'): raise OSError('port 8000 is in use')\n"
    project = make_project(place, TESTS, settings=settings)
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 4, finished
    (message,) = finished.messages()
    assert "could not load the project by itself: OSError: port 8000 is in use" in message
    busy_fleet.assert_tidy()
