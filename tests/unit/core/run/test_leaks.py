"""Claims about what tests leave behind: whose it is, how often it is reported.

It never changes a verdict.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from dct_celery.core import codec
from dct_celery.core.model import Outcome
from dct_celery.core.run import events as ev
from dct_celery.core.run.leaks import Leak, LeakKind, LeakRecord, Leaks
from tests.support.factories import group, make_manifest
from tests.support.runs import Run, finished

#: a.T.test_0, a.T.test_1, b.T.test_0, b.T.test_1
MANIFEST = make_manifest(group("a.T", count=2), group("b.T", count=2))


def warnings_of(*data: LeakRecord, leaks: Leaks | None = None) -> list[str]:
    return (leaks or Leaks()).add(MANIFEST, (0, 1, 2, 3), data, "build-a", 1)


def process(
    first: int | None = None, last: int | None = None, what: str = "7, sleep 60"
) -> LeakRecord:
    return LeakRecord(LeakKind.PROCESS, what, first=first, last=last)


def test_a_process_is_told_with_its_test_or_its_class_or_the_tests_between_which_it_was() -> None:
    assert warnings_of(process(1, 1)) == [
        "a process (7, sleep 60) was left running by a.T.test_1; it was ended"
    ]
    assert warnings_of(process(0, 1)) == [
        "a process (7, sleep 60) was left running by a.T; it was ended"
    ]
    assert "by a test from a.T.test_1 to b.T.test_0;" in warnings_of(process(1, 2))[0]


def test_a_process_of_an_unknown_test_is_blamed_on_the_chunk() -> None:
    assert "by a test from a.T.test_0 to b.T.test_1;" in warnings_of(process())[0]
    assert "by a test from a.T.test_0 to b.T.test_1;" in warnings_of(process(2, 99))[0]


def test_a_test_is_told_once_for_each_kind_and_every_leak_is_listed() -> None:
    # Given
    leaks = Leaks()
    thread = LeakRecord(LeakKind.THREAD, "lingers", by="a.T")
    # When
    first = warnings_of(process(0, 0), process(0, 0, "8, cat"), thread, leaks=leaks)
    second = warnings_of(process(0, 0), thread, replace(thread, by="b.T"), leaks=leaks)
    # Then
    assert (len(first), len(second)) == (2, 1)
    assert len(leaks.found) == 6
    assert leaks.found[2] == Leak(LeakKind.THREAD, "lingers", "a.T", "build-a", 1)


def test_a_part_of_the_state_is_told_once_for_the_run() -> None:
    # Given
    leaks = Leaks()
    # When
    lines = warnings_of(
        *(LeakRecord(LeakKind.STATE, "environ", by=name) for name in ("a.T", "b.T")), leaks=leaks
    )
    # Then
    assert lines == ["environ was left changed by a.T"]
    assert [leak.by for leak in leaks.found] == ["a.T", "b.T"]


def test_what_changes_a_tree_that_slots_share_is_named_with_its_class() -> None:
    assert warnings_of(LeakRecord(LeakKind.FILE, "media/a.txt", by="a.T")) == [
        "the project's folder, which slots of one worker share, was changed by a.T: media/a.txt"
    ]


def test_kinds_of_another_version_are_not_understood() -> None:
    with pytest.raises(
        codec.Malformed,
        match="kind: must be one of process, thread, port, state, file, schema, not 'moonbeam'",
    ):
        codec.decode(LeakRecord, {"kind": "moonbeam", "what": "?"})


def test_a_leak_warns_and_changes_no_verdict() -> None:
    # Given
    run = Run(make_manifest(group("a.T")))
    lease = run.claim()
    run.record(lease, finished(0))
    # When
    run.complete(lease, leaks=(LeakRecord(LeakKind.PORT, "127.0.0.1:80", by="a.T"),))
    # Then
    assert run.outcomes() == {0: Outcome.PASSED}
    assert run.machine.exit_code() == 0
    assert [warn.text for warn in run.all(ev.Warn)] == [
        "a listening socket (127.0.0.1:80) was left open by a.T; its process was ended"
    ]
    assert [leak.kind for leak in run.machine.leaks.found] == [LeakKind.PORT]
