"""Claims about `dispatcher.stored_run`: a run is alive for others from its opening on, whatever its
dispatcher is busy with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.core.run import events as ev
from dct_celery.dispatcher.journal import Journal
from dct_celery.dispatcher.stored_run import PATIENCE, StoredRun
from dct_celery.errors import StoreUnavailable, Superseded
from dct_celery.ports import ABANDONED_MS
from dct_celery.protocol.leases import WriteAnswer
from dct_celery.protocol.runs import RunState
from tests.support.factories import NONCE, fences, group, make_manifest, make_spec, run_door
from tests.support.memory_ledger import MemoryLedger, MemoryStore, StoredFields
from tests.support.reporters import Listener
from tests.support.runs import Run

ME = "a" * 16


class Scene:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ledger = MemoryLedger(self.store, "run-one", run_door("run-one"))
        self.ledger.open_run(ME, make_spec("run-one"))
        self.now = 100.0
        self.services: Any = Mock(
            run="run-one", nonce=NONCE, owner=ME, ledger=self.ledger, clock=lambda: self.now
        )
        self.reporter = Listener()
        self.services.report = self.reporter.take
        self.stored_run = StoredRun(self.services, make_spec("run-one"), lambda: None)


def test_a_run_is_not_closed_during_a_long_collection() -> None:
    # Given
    scene = Scene()
    scene.store.clock.ms += ABANDONED_MS + 1
    # When
    scene.stored_run.stay()
    # Then
    assert not MemoryLedger(scene.store, "run-one", run_door("run-one")).abandon()


def test_a_store_that_is_away_while_the_suite_is_collected_is_waited_for() -> None:
    # Given
    scene = Scene()
    scene.services.registry.announce.side_effect = StoreUnavailable("gone")
    # When
    scene.stored_run.stay()
    scene.now += PATIENCE
    scene.stored_run.stay()
    # Then: once is said, and not for ever
    assert len(scene.reporter.warnings) == 1
    scene.now += 1
    with pytest.raises(StoreUnavailable):
        scene.stored_run.stay()


def test_workers_that_miss_code_get_it_while_the_suite_is_collected_and_later() -> None:
    # Given
    scene = Scene()
    # When / Then
    scene.stored_run.stay()
    assert scene.services.supply_code.call_count == 1
    scene.stored_run.tend()
    assert scene.services.supply_code.call_count == 2


# -- what the store says of the run is not believed ------------------------------------


class Going(Scene):
    """A run whose first chunk is leased and whose second one waits, with a journal."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.run = Run(make_manifest(group("app.A", count=2), group("app.B")))
        first = self.run.offers[0]
        self.ledger.commit([first])
        lease = self.ledger.claim(first.id, 1, worker="build-a", slot=1, lease_ms=5000).lease
        assert lease is not None
        self.lease = lease
        self.run.send(ev.Claimed(lease, 5000))
        self.waiting = self.run.offers[1]
        self.ledger.commit([self.waiting])
        self.journal = Journal(folder, "run-one", "head", run_door("run-one"))

    @property
    def stored(self) -> StoredFields:
        return self.store.runs["run-one"]

    def loss(self, after: float = 2.0, *, caught_up: bool = True) -> str:
        self.now += after
        return self.stored_run.poll(self.now, self.run.machine, caught_up=caught_up)

    def reopen(self) -> None:
        self.stored_run.reopen(self.run.machine, self.journal)


@pytest.fixture
def going(tmp_path: Path) -> Iterator[Going]:
    going = Going(tmp_path)
    yield going
    going.journal.close()


def test_a_store_that_agrees_is_no_loss(going: Going) -> None:
    for _ in range(20):
        assert going.loss() == ""
    assert going.stored_run.state is RunState.OPEN


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("cancelled", "has an order to stop the run that is not signed with the key"),
        ("moonbeam", "has an order to stop the run that is not signed with the key"),
        ("closed", "has closed the run, since its dispatcher was silent for too long"),
    ],
)
def test_a_forged_state_is_corrected(going: Going, state: str, said: str) -> None:
    # When
    going.stored.state, going.stored.reason = state, "forged"
    # Then
    assert going.loss(0.0) == said
    # When
    going.reopen()
    # Then
    assert (going.loss(), going.ledger.state(), going.ledger.epoch()) == ("", RunState.OPEN, 2)
    assert going.ledger.renew(going.lease, 5000) is WriteAnswer.OK


def test_an_order_to_stop_with_the_key_is_no_loss(going: Going) -> None:
    # When
    MemoryLedger(going.store, "run-one", run_door("run-one")).cancel("somebody wants it so")
    # Then
    assert going.loss() == ""
    assert going.stored_run.state is RunState.CANCELLED


@pytest.mark.parametrize("epoch", [0, 2, 7, 999_999, 1_000_000, 1_000_001, 1_000_002, 10**12])
def test_an_epoch_that_was_forged_is_followed_by_a_true_one_every_time(
    going: Going, epoch: int
) -> None:
    for _ in range(3):
        # Given
        before = going.stored_run.epoch
        going.stored.epoch = epoch
        if epoch == before:
            break
        # When
        assert going.loss() == "has something else of the run than its dispatcher has put there"
        going.reopen()
        # Then: the store has a new one of ours, and everything under it
        assert going.stored_run.epoch > before
        assert going.ledger.epoch() == going.stored_run.epoch
        assert going.stored.events[0][1]["e"] == str(going.stored_run.epoch)
        claim = going.ledger.claim(going.waiting.id, 1, worker="build-b", slot=1, lease_ms=5000)
        assert claim.chunk == going.waiting
        assert going.loss() == ""


def test_an_epoch_that_was_forged_does_not_make_ours_grow_beyond_all_bounds(going: Going) -> None:
    # When
    going.stored.epoch = 10**14
    going.loss()
    going.reopen()
    # Then
    assert going.stored_run.epoch < 2_000_000


def differing(going: Going) -> str:
    """What is said after a while in which nothing changes."""
    assert going.loss() == "", "what was written is read within moments"
    assert going.loss(5.0) == ""
    return going.loss(5.0)


WRONG = "has something else of the run than its dispatcher has put there"


def test_a_forged_fence_is_corrected_after_a_while(going: Going) -> None:
    # When
    going.stored.slips[going.lease.chunk].fence = 999
    # Then
    assert differing(going) == WRONG
    # When
    going.reopen()
    # Then
    assert going.loss() == ""
    assert fences(going.ledger, [going.lease.chunk, going.waiting.id]) == [going.lease.fence, 0]
    assert going.ledger.renew(going.lease, 5000) is WriteAnswer.OK


def test_a_chunk_that_vanished_from_the_store_is_put_back_after_a_while(going: Going) -> None:
    # When
    del going.stored.slips[going.waiting.id]
    # Then
    assert differing(going) == WRONG
    going.reopen()
    assert (
        going.ledger.claim(going.waiting.id, 1, worker="build-b", slot=1, lease_ms=5000).chunk
        == going.waiting
    )


def test_a_lease_of_which_the_stream_says_nothing_is_taken_back_after_a_while(going: Going) -> None:
    # Given a claim whose entry was removed
    going.ledger.claim(going.waiting.id, 1, worker="build-b", slot=1, lease_ms=60_000)
    going.stored.events.pop()
    # Then
    assert differing(going) == WRONG
    going.reopen()
    assert fences(going.ledger, [going.waiting.id]) == [0]


def test_the_end_of_a_chunk_of_which_the_stream_says_nothing_is_asked_for_again(
    going: Going,
) -> None:
    # Given
    going.ledger.end(going.lease, 0, ev.ChunkCompleted())
    going.stored.events.pop()
    # Then
    assert differing(going) == WRONG
    going.reopen()
    assert going.ledger.end(going.lease, 0, ev.ChunkCompleted()) is WriteAnswer.MOVED
    assert going.ledger.end(replace(going.lease, epoch=2), 0, ev.ChunkCompleted()) is WriteAnswer.OK


def test_a_dispatcher_that_stood_still_concludes_nothing_from_two_polls(going: Going) -> None:
    # Given a chunk that is claimed, and ends, ahead of what has been read
    going.stored.slips[going.lease.chunk].fence = 999
    # Then
    assert going.loss() == ""
    assert going.loss(60.0) == ""
    assert going.loss() == WRONG


def test_while_the_stream_is_not_read_to_its_end_nothing_is_concluded(going: Going) -> None:
    # Given
    going.stored.slips[going.lease.chunk].fence = 999
    # Then
    for _ in range(10):
        assert going.loss(5.0, caught_up=False) == ""


def test_two_differences_one_after_the_other_are_not_one_that_lasts(going: Going) -> None:
    # Given: a claim is on its way for a moment, then an end is, and so on
    fence = going.stored.slips[going.lease.chunk].fence
    for _ in range(10):
        going.stored.slips[going.lease.chunk].fence = 999
        assert going.loss(5.0) == ""
        going.stored.slips[going.lease.chunk].fence = fence
        assert going.loss(5.0) == ""


def test_a_run_that_another_dispatcher_with_the_key_has_is_left_alone(going: Going) -> None:
    # Given
    MemoryLedger(going.store, "run-one", run_door("run-one")).adopt("b" * 16, dead=True)
    # Then
    with pytest.raises(Superseded):
        going.reopen()
