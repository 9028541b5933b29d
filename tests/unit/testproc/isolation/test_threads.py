"""Claims about `testproc.isolation.threads`: which threads forbid a fork, and their names."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from dct_celery.testproc.isolation import threads
from dct_celery.testproc.isolation.threads import ThreadStarts, alive, settle

HERE = Path(__file__)
_start = threading.Thread.start


@contextmanager
def living(name: str) -> Iterator[threading.Event]:
    """A thread of this name that lives until the event is set, or the block ends."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name=name, daemon=True)
    thread.start()
    try:
        yield end
    finally:
        end.set()
        thread.join()


def test_a_thread_that_lives_is_found_by_its_name() -> None:
    # Given
    assert "metrics" not in list(alive())
    # When
    with living("metrics"):
        found = list(alive())
    # Then: pytest's own threads may be there as well
    assert "metrics" in found
    assert "metrics" not in list(alive())


def test_a_thread_that_has_ended_but_is_still_listed_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given one that the kernel does not know any more
    with living("metrics"):
        this = threading.get_native_id()
        monkeypatch.setattr(threads, "_tasks", lambda: [this])
        # Then
        assert list(alive()) == []


def test_a_thread_that_python_does_not_know_is_named_by_its_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    this = threading.get_native_id()
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.current_thread()])
    monkeypatch.setattr(threads, "_tasks", lambda: [this, 2, 3])
    monkeypatch.setattr(threads, "_comm", {2: "blas", 3: "grpc_timer"}.__getitem__)
    # Then
    assert list(alive()) == ["a thread of a library (blas)", "a thread of a library (grpc_timer)"]
    # When one of them is OpenBLAS's, which ends it before a fork
    monkeypatch.setattr(threads, "_blas_threads", lambda: 1)
    # Then
    assert list(alive()) == ["a thread of a library (grpc_timer)"]


def test_a_library_that_tells_nothing_has_no_threads() -> None:
    assert threads._threads_of("/nowhere/libopenblas.so") == 0


def test_a_thread_that_ends_while_it_is_looked_at_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    this = threading.get_native_id()
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.current_thread()])
    monkeypatch.setattr(threads, "_tasks", lambda: [this, -1])
    # Then
    assert list(alive()) == []


def test_a_thread_that_is_about_to_end_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given one that ends while it is waited for
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="short", daemon=True)
    thread.start()

    def wait(_: float) -> None:
        end.set()
        thread.join()

    monkeypatch.setattr(threads, "_wait", wait)
    monkeypatch.setattr(threads, "_tasks", lambda: None)
    # When / Then
    assert "short" not in settle()


def test_asgirefs_idle_thread_is_ended_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="asgiref")
    executor.submit(int).result()
    holder = SimpleNamespace(single_thread_executor=executor)
    monkeypatch.setitem(sys.modules, "asgiref.sync", SimpleNamespace(SyncToAsync=holder))
    # When
    found = settle()
    # Then
    assert not [name for name in found if name.startswith("asgiref")]
    assert holder.single_thread_executor is not executor
    assert holder.single_thread_executor.submit(int).result() == 0
    holder.single_thread_executor.shutdown()


def test_asgirefs_thread_at_work_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    end = threading.Event()
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="asgiref")
    work = executor.submit(end.wait)
    holder = SimpleNamespace(single_thread_executor=executor)
    monkeypatch.setitem(sys.modules, "asgiref.sync", SimpleNamespace(SyncToAsync=holder))
    # When
    found = settle()
    end.set()
    work.result()
    executor.shutdown()
    # Then
    assert "asgiref_0" in found
    assert holder.single_thread_executor is executor


def test_where_a_thread_is_started_is_noted_until_nobody_watches() -> None:
    # Given
    starts = ThreadStarts()
    starts.watch(str(HERE.parent))
    try:
        with living("metrics"):
            (thread,) = [one for one in threading.enumerate() if one.name == "metrics"]
            # Then
            assert starts.of(thread).startswith(f"{HERE.name}:")
    finally:
        # When
        starts.stop()
    assert threading.Thread.start is _start
    assert starts.of(threading.main_thread()) == ""


def test_a_package_is_named_where_no_code_of_the_project_is_on_the_way(tmp_path: Path) -> None:
    # Given
    package = tmp_path / "site-packages" / "statsd"
    package.mkdir(parents=True)
    source = "def begin(thread):\n    thread.start()\n"
    code = compile(source, str(package / "client.py"), "exec")
    names: dict[str, object] = {}
    exec(code, names)
    starts = ThreadStarts()
    starts.watch(str(tmp_path / "project"))
    thread = threading.Thread(target=int)
    # When
    try:
        names["begin"](thread)  # type: ignore[operator]
    finally:
        starts.stop()
    # Then
    assert starts.of(thread) == "statsd/client.py:2"
    thread.join()


def test_somebody_elses_patch_of_the_start_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a library that wraps what it finds
    starts = ThreadStarts()
    starts.watch(str(HERE.parent))
    ours = threading.Thread.start

    def wrapped(thread: threading.Thread) -> None:
        ours(thread)

    monkeypatch.setattr(threading.Thread, "start", wrapped)
    # When
    starts.stop()
    # Then
    assert threading.Thread.start is wrapped
    monkeypatch.setattr(threading.Thread, "start", _start)
