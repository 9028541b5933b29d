"""Claims about `dispatcher.collect`: a manifest is whole and unchanged, or there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dct_celery.core.model import Manifest, Outcome, Verdict
from dct_celery.dispatcher.collect import Collected, Patience, collect
from dct_celery.errors import CollectionError, Interrupted, ProcessDied, ProtocolError
from dct_celery.wire.messages import Entries, Fatal, Loaded, Message
from tests.support.factories import group, make_manifest

MANIFEST = make_manifest(
    group("a.T", count=3, databases=("default",), tags=("slow",)),
    group("b.U", locks=("port:8081",)),
)


class FakeProcess:
    """A collect process with the messages of the test; None is a wait without one. It dies after
    the last one.
    """

    pid = 1

    def __init__(self, *sent: Message | None) -> None:
        self._messages: Iterator[Message | None] = iter(sent)

    def receive(self, timeout: float | None = None) -> Message | None:
        try:
            return next(self._messages)
        except StopIteration:
            raise ProcessDied("the collect process ended with exit status 1") from None

    def alive(self) -> bool:
        return True

    def send(self, message: Message) -> None: ...

    def show_stacks(self) -> None:
        self.shown = True

    def kill(self) -> None: ...

    def close(self, grace: float = 5.0) -> None: ...


def loaded(manifest: Manifest = MANIFEST) -> Loaded:
    return Loaded(len(manifest), manifest.digest, 0.5, {"python": "3.11"}, [])


def rows(*indices: int) -> Entries:
    return Entries(tuple(MANIFEST[index] for index in indices), last=False)


END = Entries((), last=True)


def collected(
    *sent: Message | None, meanwhile: Any = lambda: None, patience: Patience | None = None
) -> Collected:
    return collect(
        FakeProcess(*sent), lambda: "last output", meanwhile, patience or Patience(0, float)
    )


def clock(*steps: float) -> Iterator[float]:
    """Seconds that go on by these steps, then stand still."""
    now = 100.0
    for step in (*steps, *[0.0] * 100):
        now += step
        yield now


def test_the_manifest_arrives_in_parts_and_in_order() -> None:
    # When
    found = collected(loaded(), rows(0, 1), rows(2), rows(3), END)
    # Then
    assert found.manifest == MANIFEST
    assert found.loaded.environment == {"python": "3.11"}


def test_an_empty_suite_is_a_manifest() -> None:
    assert len(collected(loaded(Manifest(())), END).manifest) == 0


@pytest.mark.parametrize(
    "parts", [(rows(0, 1, 2),), (rows(1, 0), rows(2, 3)), (rows(0, 1, 2, 3, 3),)]
)
def test_a_manifest_that_lacks_or_doubles_or_swaps_entries_is_refused(
    parts: tuple[Entries, ...],
) -> None:
    with pytest.raises(CollectionError, match="the manifest changed while it was collected"):
        collected(loaded(), *parts, END)


def test_what_the_project_said_is_the_message() -> None:
    # When
    with pytest.raises(CollectionError) as caught:
        collected(Fatal("labels", "No module named 'nope'", "Traceback …"))
    # Then
    assert str(caught.value) == "No module named 'nope'"
    assert caught.value.detail == "Traceback …"
    assert caught.value.exit_code == 4


def test_settings_that_do_not_import_are_named_as_such() -> None:
    with pytest.raises(CollectionError, match=r"^the settings cannot be used: No module"):
        collected(Fatal("settings", "No module named 'shop'"))


def test_the_command_that_runs_one_test_again_is_the_projects_own() -> None:
    # Given
    described = replace(loaded(), rerun=("python", "manage.py", "test", "--settings=a.b"))
    # When
    found = collected(described, rows(0, 1, 2, 3), END)
    # Then
    verdict = Verdict(MANIFEST[3], Outcome.FAILED)
    assert found.rerun(verdict) == f"python manage.py test --settings=a.b {MANIFEST[3].id}"


class GarblingProcess(FakeProcess):
    """What follows its messages is none."""

    def receive(self, timeout: float | None = None) -> Message | None:
        try:
            return super().receive(timeout)
        except ProcessDied:
            raise ProtocolError("not a message of ours: Entry lacks id") from None


def test_an_entry_that_is_none_is_a_fault_of_the_suite() -> None:
    # Given
    process = GarblingProcess(loaded(), rows(0))
    # When
    with pytest.raises(CollectionError, match=r"description of itself is malformed: .* lacks id"):
        collect(process, lambda: "", lambda: None, Patience(0, float))


@pytest.mark.parametrize("said", [(), (loaded(),), (loaded(), rows(0, 1))])
def test_a_process_that_dies_on_the_way_is_reported_with_its_last_output(
    said: tuple[Message, ...],
) -> None:
    # When
    with pytest.raises(
        CollectionError, match="could not be collected: the collect process ended"
    ) as caught:
        collected(*said)
    # Then
    assert caught.value.detail == "last output"


def test_an_interrupt_ends_the_waiting() -> None:
    # Given
    def interrupted() -> None:
        raise Interrupted

    # Then
    with pytest.raises(Interrupted):
        collected(None, None, loaded(), meanwhile=interrupted)


def test_a_suite_that_is_never_built_ends_the_waiting_with_its_stacks() -> None:
    # Given
    times = clock(*[0.5] * 20)
    # When
    with pytest.raises(
        CollectionError, match=r"took longer than 3 s \(--fixture-timeout\)"
    ) as caught:
        collected(*[None] * 20, patience=Patience(3.0, lambda: next(times)))
    # Then
    assert caught.value.detail == "last output"


def test_time_in_which_this_side_was_stopped_is_not_the_projects() -> None:
    # Given
    times = clock(0.5, 3600.0, 0.5)
    # Then
    assert collected(
        None, None, None, loaded(Manifest(())), END, patience=Patience(3.0, lambda: next(times))
    )


def test_patience_without_a_limit_has_no_end() -> None:
    # Given
    times = clock(*[1.0] * 50)
    # Then
    assert collected(
        *[None] * 50, loaded(Manifest(())), END, patience=Patience(0, lambda: next(times))
    )
