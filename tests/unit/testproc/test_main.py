"""Claims about `testproc.main`: a Load becomes a manifest in parts, or one Fatal with the reason.

About what names a backend.
"""

from __future__ import annotations

import os
import sys
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.core import codec
from dct_celery.core.model import Manifest, Phase
from dct_celery.testproc import main as module
from dct_celery.testproc.backends.base import LoadFailed, Project, Serve, failing_as, find
from dct_celery.testproc.isolation import threads
from dct_celery.testproc.loader import ForkingLoader, _write_status, variables_of
from dct_celery.testproc.main import serve
from dct_celery.wire import messages
from tests.support.inprocess import MemoryChannel

BACKEND = "tests.support.plain_backend:BACKEND"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[messages.Load]:
    """A collect order for a folder with five checks in two modules."""
    (tmp_path / "inner").mkdir()
    names = [f"checks_{os.getpid()}_{letter}" for letter in "ab"]
    for name, functions in zip(
        names, (["check_1", "check_2", "check_3"], ["check_4", "check_5"]), strict=True
    ):
        (tmp_path / "inner" / f"{name}.py").write_text(
            "".join(f"def {each}(): pass\n" for each in functions)
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(threads, "settle", list)  # those of pytest are not the project's
    folder = str(tmp_path / "inner")
    yield messages.Load(BACKEND, tuple(names), str(tmp_path), "inner", [folder], collect_only=True)
    for name in names:
        sys.modules.pop(name, None)


def served(load: messages.Load) -> list[messages.Message]:
    channel = MemoryChannel()
    serve(load, channel)
    return channel.sent


def test_a_collection_is_a_description_and_the_manifest_in_parts(
    load: messages.Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(module, "_BATCH", 2)
    # When
    loaded, *parts = served(load)
    # Then
    assert isinstance(loaded, messages.Loaded)
    entries = [part.entries for part in parts if isinstance(part, messages.Entries)]
    assert [len(part) for part in entries] == [2, 2, 1, 0]
    assert isinstance(parts[-1], messages.Entries)
    assert parts[-1].last
    manifest = Manifest(tuple(entry for part in entries for entry in part))
    assert (loaded.count, loaded.digest) == (5, manifest.digest)
    assert manifest[0].file == f"inner/{load.arguments[0]}.py"
    assert {entry.phase for entry in manifest} == {Phase.NO_DATABASE}


def test_a_description_names_interpreter_packages_and_the_command_for_one_test(
    load: messages.Load,
) -> None:
    # When
    loaded = served(load)[0]
    # Then
    assert isinstance(loaded, messages.Loaded)
    assert loaded.rerun == ("python", "plain_backend.py")
    assert loaded.facts["python"] == sys.version.split()[0]
    assert loaded.environment["implementation"] == "CPython"
    assert "package:pytest" in loaded.environment


def test_the_project_is_loaded_in_its_folder_with_its_paths_in_front(load: messages.Load) -> None:
    # When
    served(load)
    # Then
    assert os.path.samefile(os.getcwd(), os.path.join(load.root, "inner"))
    assert sys.path[0] == load.sys_path[0]


def test_the_project_comes_first_although_it_is_installed_in_place_behind_others(
    load: messages.Load,
) -> None:
    # Given
    sys.path.append(load.sys_path[0])
    # When
    served(load)
    # Then
    assert sys.path[0] == load.sys_path[0]


def test_a_selection_that_cannot_be_imported_is_one_reason(load: messages.Load) -> None:
    # When
    (fatal,) = served(
        messages.Load(BACKEND, ("missing",), load.root, "inner", load.sys_path, collect_only=True)
    )
    # Then
    assert isinstance(fatal, messages.Fatal)
    assert (fatal.reason, fatal.message) == (
        "labels",
        "ModuleNotFoundError: No module named 'missing'",
    )


def test_a_project_that_breaks_what_decoders_are_made_with_does_not_keep_its_loader_from_orders(
    load: messages.Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(typing, "get_type_hints", typing.get_type_hints)  # for afterwards
    codec.decoder.cache_clear()
    with Path(load.sys_path[0], f"{load.arguments[0]}.py").open("a") as file:
        file.write("import typing\ntyping.get_type_hints = None\n")
    order = messages.RunChunk("c1", [0])
    read: list[messages.Message] = []

    class OneOrder:
        def __init__(self, *_: object) -> None:
            pass

        def serve(self) -> None:
            read.append(messages.decode(order.encode()))

    monkeypatch.setattr(module, "ForkingLoader", OneOrder)
    # When
    served(replace(load, collect_only=False))
    # Then
    assert read == [order]


def test_whatever_a_backend_raises_while_it_loads_is_one_reason(
    load: messages.Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    def broken(self: object, order: messages.Load, serve: Serve) -> None:
        raise ZeroDivisionError("in the backend")

    monkeypatch.setattr("tests.support.plain_backend.PlainBackend.load", broken)
    # When
    (fatal,) = served(load)
    # Then
    assert isinstance(fatal, messages.Fatal)
    assert (fatal.reason, fatal.message) == ("collection", "ZeroDivisionError: in the backend")


def test_a_backend_that_loads_nothing_is_named(
    load: messages.Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(
        "tests.support.plain_backend.PlainBackend.load", lambda self, order, serve: None
    )
    # When
    (fatal,) = served(load)
    # Then
    assert isinstance(fatal, messages.Fatal)
    assert (fatal.reason, fatal.message) == (
        "collection",
        f"the backend {BACKEND} has loaded no project",
    )


def test_a_fault_of_a_loaded_project_is_reported_and_not_raised_into_its_command(
    load: messages.Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a command that takes every exception for its own
    raised: list[BaseException] = []

    def command(self: object, order: messages.Load, serve: Serve) -> None:
        project: Any = SimpleNamespace(identities=lambda: 1 / 0)
        try:
            serve(project)
        except BaseException as error:
            raised.append(error)

    monkeypatch.setattr("tests.support.plain_backend.PlainBackend.load", command)
    # When
    (fatal,) = served(load)
    # Then
    assert isinstance(fatal, messages.Fatal)
    assert (fatal.reason, raised) == ("collection", [])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "no_such_module:BACKEND",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("tests.support.plain_backend:NONE", "cannot be imported: AttributeError: "),
        ("tests.support.plain_backend:main", "has no method load"),
    ],
)
def test_a_backend_that_is_none_is_named(name: str, message: str) -> None:
    # When
    with pytest.raises(LoadFailed) as caught:
        find(name)
    # Then
    assert caught.value.fatal.reason == "backend"
    assert caught.value.fatal.message.startswith(f"the backend {name} {message}")


def test_the_built_in_backend_is_there() -> None:
    assert callable(find("django").load)


def test_the_fault_of_a_project_is_shown_without_our_own_frames() -> None:
    # When
    with pytest.raises(LoadFailed) as caught, failing_as("settings"):
        int("x")
    # Then
    fatal = caught.value.fatal
    assert (fatal.reason, fatal.message) == (
        "settings",
        "ValueError: invalid literal for int() with base 10: 'x'",
    )
    assert "dct_celery/testproc" not in fatal.detail


def test_a_failure_that_has_its_reason_keeps_it() -> None:
    # Given
    inner = LoadFailed(messages.Fatal("labels", "no such label"))
    # When
    with pytest.raises(LoadFailed) as caught, failing_as("collection"):
        raise inner
    # Then
    assert caught.value is inner


def test_an_order_of_a_slot_that_is_gone_forks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a loader whose process adopts no orphans, as it is that of these tests
    monkeypatch.setattr("dct_celery.testproc.loader.Orphans", lambda: None)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("it must not fork"))
    os.mkfifo(tmp_path / "fifo")
    load = messages.Load(
        BACKEND, (), str(tmp_path), ".", [], collect_only=False, fork_fifo=str(tmp_path / "fifo")
    )
    projects: list[Project] = []
    find(BACKEND).load(load, projects.append)
    loader = ForkingLoader(projects[0], MemoryChannel(), load)
    # When the file of the order is gone, or the lifeline that it names
    loader._obey(str(tmp_path / "order"))
    order = messages.ForkOrder(
        "in", "out", str(tmp_path / "lifeline"), "log", "stacks", "status", {}
    )
    (tmp_path / "order").write_bytes(order.encode())
    loader._obey(str(tmp_path / "order"))
    # Then
    assert loader._status == {}


@pytest.mark.parametrize(("status", "text"), [(0, "exit 0"), (3 << 8, "exit 3"), (9, "signal 9")])
def test_the_end_of_a_fork_is_written_for_its_slot(tmp_path: Path, status: int, text: str) -> None:
    # When
    _write_status(str(tmp_path / "status"), status, 4096)
    # Then
    assert (tmp_path / "status").read_text() == f"{text}\n4096\n"


def test_a_fork_has_the_variables_of_its_slot_but_keeps_a_cache_folder_that_was_chosen() -> None:
    # Given
    own = {"XDG_CACHE_HOME": "/theirs", "DCT_SLOT": "2"}
    order = messages.ForkOrder("in", "out", "life", "log", "stacks", "status", own)
    # Then
    assert variables_of(order, {"XDG_CACHE_HOME": "/mine", "A": "1"}) == {
        "XDG_CACHE_HOME": "/mine",
        "DCT_SLOT": "2",
    }
    assert variables_of(order, {"A": "1"}) == order.environment
