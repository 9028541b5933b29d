"""Claims about `testproc.session`.

One answer for each message, whatever the project does, and an end that tears down.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from dct_celery.core.model import Entry
from dct_celery.testproc.backends.base import Description, Identity, NoDatabases
from dct_celery.testproc.recorder import Recorder
from dct_celery.testproc.session import Session
from dct_celery.wire import messages
from tests.support.inprocess import Bench, MemoryChannel

ORDERS = [
    messages.Attach({"default": "clone_1"}, {}),
    messages.Build({"default": "template"}),
    messages.Check({"default": "template"}),
    messages.Flush({"default": "template"}, ["default"]),
    messages.Serialize({"default": "template"}, {"default": "file"}),
]


class Obedient(NoDatabases):
    """A project that notes what it is asked, and raises the error of the test."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.asked: list[object] = []
        self._error = error

    def _note(self, order: object) -> None:
        self.asked.append(order)
        if self._error is not None:
            raise self._error

    attach = build = check = flush = serialize = _note

    def identities(self) -> Sequence[Identity]:
        return []

    def entries(self) -> list[Entry]:
        return []

    def describe(self, packages: dict[str, str]) -> Description:
        return Description(())

    def run(self, indices: Sequence[int], recorder: Recorder) -> messages.ChunkFinished:
        self._note(list(indices))
        return recorder.finish()

    def close(self) -> None:
        self._note("close")


@pytest.fixture(autouse=True)
def _no_exit_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the process that runs these tests are none of a session's."""
    monkeypatch.setattr("atexit._run_exitfuncs", lambda: None)


def answers(
    project: Obedient, *orders: messages.Message, temporary: str = "", printed: str = ""
) -> list[messages.Message]:
    bench, channel = Bench(), MemoryChannel(orders)
    bench.output.printed = printed
    Session(channel, bench.output, bench.recorder, temporary).serve(project)
    return channel.sent


def test_each_order_goes_to_the_project_and_has_its_answer() -> None:
    # Given
    project = Obedient()
    # When
    found = answers(project, *ORDERS)
    # Then
    assert [answer.kind for answer in found] == [
        "Attached",
        "Built",
        "Checked",
        "Flushed",
        "Serialized",
    ]
    assert project.asked == [*ORDERS, "close"]
    assert isinstance(found[0], messages.Attached)
    assert found[0].pid == os.getpid()


def test_a_suite_is_written_into_a_file(tmp_path: Path) -> None:
    # Given
    file = tmp_path / "suite.json"
    # When
    (answer,) = answers(Obedient(), messages.WriteSuite(str(file)))
    # Then
    assert answer.kind == "SuiteWritten"
    assert json.loads(file.read_text()) == [list(one) for one in Obedient().identities()]


def test_what_a_build_printed_is_in_its_answer() -> None:
    # When
    (answer,) = answers(Obedient(), messages.Build({}), printed="Applying 0001")
    # Then
    assert isinstance(answer, messages.Built)
    assert answer.output == "Applying 0001"


def test_what_an_attach_printed_is_no_tests_output() -> None:
    # Given
    bench, channel = Bench(), MemoryChannel([messages.Attach({}, {})])
    bench.output.printed = "from setup_databases"
    # When
    Session(channel, bench.output, bench.recorder).serve(Obedient())
    # Then
    assert bench.output.printed == ""


def test_a_chunk_is_run_under_its_own_name_with_a_folder_for_temporary_files(
    tmp_path: Path,
) -> None:
    # Given
    project, folder = Obedient(), tmp_path / "gone" / "tmp"
    # When
    found = answers(project, messages.RunChunk("c7", [3, 4]), temporary=str(folder))
    # Then
    assert found == [messages.ChunkFinished("c7", 0, {})]
    assert project.asked == [[3, 4], "close"]
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (messages.Attach({}, {}), "database"),
        (messages.Build({}), "template"),
        (messages.Check({}), "checks"),
        (messages.Flush({}, []), "database"),
        (messages.RunChunk("c1", [0]), "internal"),
    ],
)
@pytest.mark.parametrize("error", [ValueError("no\nmore"), SystemExit("no\nmore")])
def test_an_order_that_fails_is_answered_with_the_reason_and_the_session_goes_on(
    order: messages.Message, reason: str, error: BaseException
) -> None:
    # When
    first, second = answers(Obedient(error), order, order, printed="words")
    # Then
    assert isinstance(first, messages.Fatal)
    assert (first.reason, first.message) == (reason, f"{type(error).__name__}: no")
    assert first.detail.startswith("words\nTraceback")
    assert second.kind == "Fatal"


def test_what_no_slot_asks_is_refused() -> None:
    # When
    (answer,) = answers(Obedient(), messages.TestStarted(1))
    # Then
    assert answer == messages.Fatal("internal", "a test process cannot answer TestStarted")


def test_a_goodbye_ends_the_session_before_what_follows() -> None:
    # Given
    project = Obedient()
    # When
    found = answers(project, messages.Goodbye(), messages.Build({}))
    # Then
    assert found == []
    assert project.asked == ["close"]


def test_a_tear_down_that_fails_ends_the_session_all_the_same() -> None:
    assert answers(Obedient(OSError("busy"))) == []
