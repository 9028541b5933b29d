"""Claims about `dispatcher.adopt`: which source counts when a run is taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.core.model import Chunk
from dct_celery.core.plan.timings import NAMED, Sample, encode
from dct_celery.dispatcher import timing_files
from dct_celery.dispatcher.adopt import Adopted, adopt
from dct_celery.dispatcher.event_loop import EventLoop
from dct_celery.dispatcher.journal import open_journal
from dct_celery.dispatcher.lifecycle import RunLifecycle
from dct_celery.dispatcher.run_snapshot import RunSnapshot
from dct_celery.dispatcher.timing_files import TimingFiles
from dct_celery.errors import ConfigError, StoreUnavailable, Untrusted
from dct_celery.ports import DISPATCHER_LEASE_MS
from dct_celery.protocol.door import Door
from dct_celery.protocol.heads import compress
from dct_celery.settings import Settings
from tests.support.factories import (
    OTHER_KEY,
    group,
    make_head,
    make_manifest,
    make_spec,
    run_door,
)
from tests.support.memory_ledger import MemoryLedger, MemoryStore

DOOR = run_door("run-one")
HEAD = make_head()
ME, YOU = "a" * 16, "b" * 16


@pytest.mark.parametrize("begun", ["", '{"run":"o'], ids=["nothing", "half a line"])
def test_a_journal_without_its_first_line_is_no_obstacle_to_what_the_store_has(
    tmp_path: Path, begun: str
) -> None:
    # Given a dispatcher that died before it had written anything to its journal
    store = MemoryStore()
    ledger = MemoryLedger(store, "run-one", DOOR)
    ledger.open_run(ME, make_spec("run-one"))
    ledger.publish_head(compress(HEAD.text(DOOR)))
    (tmp_path / "run-one.jsonl").write_text(begun)
    store.clock.ms += DISPATCHER_LEASE_MS + 1
    services: Any = Mock(run="run-one", owner=YOU, door=DOOR, ledger=ledger, journals=tmp_path)
    # When
    adopted = adopt(services)
    # Then
    assert adopted.snapshot == HEAD
    assert adopted.whole
    adopted.journal.close()
    assert (tmp_path / "run-one.jsonl").read_text() == f"{HEAD.text(DOOR)}\n"


def services_of(tmp_path: Path, store: MemoryStore, door: Door = DOOR) -> Any:
    ledger = MemoryLedger(store, "run-one", door)
    return Mock(
        run="run-one",
        owner=YOU,
        door=door,
        ledger=ledger,
        journals=tmp_path,
        interrupted=lambda: False,
        timing_files=TimingFiles(),
    )


def begun(store: MemoryStore, head: RunSnapshot = HEAD) -> MemoryLedger:
    """A run whose dispatcher died long ago, and left its head in the store."""
    ledger = MemoryLedger(store, "run-one", DOOR)
    ledger.open_run(ME, make_spec("run-one"))
    ledger.publish_head(compress(head.text(DOOR)))
    store.clock.ms += DISPATCHER_LEASE_MS + 1
    return ledger


@pytest.mark.parametrize(
    ("door", "why"),
    [
        (run_door("run-one", OTHER_KEY), "is signed with another key"),
        (run_door("run-one", nonce="f" * 16), "has a wrong signature"),
    ],
)
def test_a_run_of_another_key_is_not_gone_on_with(tmp_path: Path, door: Door, why: str) -> None:
    # Given
    store = MemoryStore()
    begun(store)
    # Then
    with pytest.raises(Untrusted, match=f"the head of the run {why}"):
        adopt(services_of(tmp_path, store, door))


def test_a_head_that_somebody_changed_in_the_store_is_not_gone_on_with(tmp_path: Path) -> None:
    # Given
    store = MemoryStore()
    begun(store).publish_head(compress(HEAD.text(DOOR).replace("app.tests.A", "app.tests.B")))
    # Then
    with pytest.raises(Untrusted, match="the head of the run has a wrong signature"):
        adopt(services_of(tmp_path, store))


def test_a_journal_of_an_earlier_run_of_the_same_name_is_not_taken_for_this_ones(
    tmp_path: Path,
) -> None:
    # Given
    store = MemoryStore()
    begun(store)
    earlier = run_door("run-one", nonce="f" * 16)
    open_journal(tmp_path, "run-one", make_head().text(earlier), earlier).close()
    # When
    adopted = adopt(services_of(tmp_path, store))
    # Then
    assert adopted.snapshot == HEAD
    adopted.journal.close()


def test_an_epoch_that_was_forged_does_not_become_ours(tmp_path: Path) -> None:
    # Given
    store = MemoryStore()
    begun(store)
    store.runs["run-one"].epoch = 10**14
    # When
    adopted = adopt(services_of(tmp_path, store))
    # Then
    assert adopted.epoch <= 1_000_000
    adopted.journal.close()


def lifecycle(
    services: Any, store: MemoryStore, head: RunSnapshot = HEAD
) -> tuple[RunLifecycle, Adopted]:
    """Of an adopted run that began at 5.0."""
    begun(store, head)
    services.settings, services.clock, services.wall = Settings(), lambda: 1.0, lambda: 65.0
    services.timings.return_value.load.return_value = {}
    adopted = adopt(services)
    return RunLifecycle(services, adopted.snapshot.request), adopted


def test_a_run_that_was_attached_to_has_taken_the_time_since_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    services = services_of(tmp_path, store := MemoryStore())
    run, adopted = lifecycle(services, store)
    for step in ("catch_up", "follow"):
        monkeypatch.setattr(EventLoop, step, lambda *_, **__: None)
    # When
    report = run.go_on(adopted)
    adopted.journal.close()
    # Then
    assert (report.started_at, report.seconds["wall"]) == (5.0, 60.0)


def test_a_machine_without_the_checkout_goes_on_with_a_run_that_took_changed_files_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    services = services_of(tmp_path, store := MemoryStore())
    run, adopted = lifecycle(services, store)
    services.settings = Settings(changed_first="HEAD", failed_first=True)
    services.changed_files.side_effect = ConfigError("git cannot compare")
    for step in ("catch_up", "follow"):
        monkeypatch.setattr(EventLoop, step, lambda *_, **__: None)
    # When
    report = run.go_on(adopted)
    adopted.journal.close()
    # Then
    assert len(report.verdicts) == len(adopted.snapshot.to_collected().manifest)


def test_what_only_a_file_knows_is_kept_after_the_run_and_what_runs_have_measured_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a store that knows one of three tests, and a file that knows all, one by a hint
    services = services_of(tmp_path, store := MemoryStore())
    run, adopted = lifecycle(services, store)
    services.timings.return_value.load.return_value = {"t:b": "[1.0,4]"}
    services.timing_files = TimingFiles(
        {"t:a": Sample(2.0, 1), "t:b": Sample(9.0, 1), "h:b": Sample(9.0, 1), "h:c": Sample(3.0, 1)}
    )
    services.timing_files.keep_projects_own(str(tmp_path / "after.json"))
    for step in ("catch_up", "follow"):
        monkeypatch.setattr(EventLoop, step, lambda *_, **__: None)
    # When
    run.go_on(adopted)
    adopted.journal.close()
    # Then
    (saved,) = services.timings.return_value.save.call_args.args
    assert {key: text for key, text in saved.items() if key[:2] in NAMED} == {
        "t:a": "[2.0,1]", "h:c": "[3.0,1]"
    }  # fmt: skip
    assert timing_files.read(tmp_path / "after.json") == {
        "t:a": Sample(2.0, 1), "t:b": Sample(1.0, 4), "h:c": Sample(3.0, 1)
    }  # fmt: skip


def test_a_run_on_a_store_that_knows_nothing_is_planned_with_a_file_as_one_that_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a suite of quick and slow classes, and what runs remember of it
    manifest = make_manifest(*(group(f"a.T{number}", count=3) for number in range(40)))
    memory = {f"t:{entry.id}": Sample((entry.index * 7 % 11) ** 2 / 20, 5) for entry in manifest}
    memory["c:a.T7"] = Sample(9.5, 5)
    timing_files.write(tmp_path / "exported.json", memory)
    from_file = timing_files.read(tmp_path / "exported.json")
    plans: list[list[Chunk]] = []

    def plan(loop: EventLoop, *_: object) -> None:
        planner = loop._machine.planner
        plans.append(list(iter(lambda: planner.next_chunk(3, frozenset()), None)))

    monkeypatch.setattr(EventLoop, "catch_up", lambda *_, **__: None)
    monkeypatch.setattr(EventLoop, "follow", plan)
    for stored, file in ((memory, {}), ({}, from_file), ({}, {})):
        services = services_of(tmp_path, store := MemoryStore())
        run, adopted = lifecycle(services, store, make_head(manifest))
        encoded = {key: encode(sample) for key, sample in stored.items()}
        services.timings.return_value.load.return_value = encoded
        services.timing_files = TimingFiles(dict(file))
        # When
        run.go_on(adopted)
        adopted.journal.close()
        (tmp_path / "run-one.jsonl").unlink()
    # Then
    remembered, imported, unknown = plans
    assert imported == remembered
    assert unknown != remembered


def test_a_store_that_goes_away_while_a_run_is_taken_over_leaves_the_run_to_the_next_attach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    services = services_of(tmp_path, store := MemoryStore())
    run, adopted = lifecycle(services, store)

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("gone")

    # When
    monkeypatch.setattr(EventLoop, "catch_up", away)
    with pytest.raises(StoreUnavailable):
        run.go_on(adopted)
    adopted.journal.close()
    # Then: it is neither closed nor cancelled
    assert services.ledger.state() == "open"
