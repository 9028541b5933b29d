"""Claims about `worker.slot.chunk_run`: what a slot does when the store has lost the run and has it
back.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.core.model import Chunk, Need, Outcome, Phase
from dct_celery.core.run.events import Recorded
from dct_celery.core.run.records import TestRecord
from dct_celery.errors import ProcessDied, StoreUnavailable
from dct_celery.ports import RunContents
from dct_celery.protocol.leases import OutstandingChunk
from dct_celery.wire import messages
from dct_celery.worker.slot.chunk_run import ChunkRun
from tests.support.factories import make_spec, run_door
from tests.support.fake_clock import FakeClock
from tests.support.memory_ledger import MemoryLedger, MemoryStore

CHUNK = Chunk("c1", (0, 1), Phase.ISOLATED, Need.PRISTINE)
OWNER = "01234567"


def passed(index: int) -> messages.TestFinished:
    return messages.TestFinished(index, Outcome.PASSED, 0.1)


def test_a_store_that_goes_away_while_it_is_asked_for_the_new_epoch_costs_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a record that was sent, and a store that was wiped before the dispatcher had it
    ledger = MemoryLedger(MemoryStore(), "run-one", run_door())
    ledger.open_run(OWNER, make_spec())
    ledger.commit([CHUNK])
    lease = ledger.claim("c1", 1, worker="build-a", slot=0, lease_ms=1000).lease
    assert lease is not None
    slot_run: Any = Mock(ledger=ledger, test_timeout=None, fixture_timeout=None)
    slot_run.folder.spool = tmp_path
    run: Any = ChunkRun(slot_run, lease, CHUNK, Mock(clock=FakeClock()), 1000)
    run._keeper = Mock()
    run._record(passed(0), passed(0).encode(), 0.0)
    assert run._send()
    assert ledger.reopen(
        OWNER, 2, RunContents(make_spec()), [OutstandingChunk(CHUNK, lease, 1000)], {}
    )
    # When the next one finds the new epoch, but no answer to its question
    acknowledged, failures = ledger.acknowledged, iter([StoreUnavailable("gone again")])

    def flaky(keys: list[str]) -> list[int]:
        if error := next(failures, None):
            raise error
        return acknowledged(keys)

    monkeypatch.setattr(ledger, "acknowledged", flaky)
    run._record(passed(1), passed(1).encode(), 0.0)
    while not run._send():
        pass
    run._spool.close()
    # Then
    facts = [entry.fact for entry in ledger.read("0", block_ms=0).entries]
    records = [record for fact in facts if isinstance(fact, Recorded) for record in fact.records]
    assert [record.index for record in records if isinstance(record, TestRecord)] == [0, 1]


@pytest.mark.parametrize(("age", "sent"), [(0.2, False), (0.26, True)])
def test_a_batch_goes_out_when_it_is_as_old_as_the_chunk_says(
    tmp_path: Path, age: float, sent: bool
) -> None:
    # Given
    ledger = MemoryLedger(MemoryStore(), "run-one", run_door())
    ledger.open_run(OWNER, make_spec())
    chunk = replace(CHUNK, batch_seconds=0.25)
    ledger.commit([chunk])
    lease = ledger.claim("c1", 1, worker="build-a", slot=0, lease_ms=1000).lease
    assert lease is not None
    slot_run: Any = Mock(ledger=ledger, test_timeout=None, fixture_timeout=None)
    slot_run.folder.spool = tmp_path
    clock = FakeClock()
    run: Any = ChunkRun(slot_run, lease, chunk, Mock(clock=clock), 1000)
    run._keeper = Mock(lost=False)
    run._interrupted = Mock(return_value="")
    heard = iter([(0.0, passed(0)), (age, None)])

    def receive(timeout: float) -> messages.Message | None:
        seconds, message = next(heard, (0.0, ProcessDied("enough")))
        clock.sleep(seconds)
        if isinstance(message, ProcessDied):
            raise message
        return message

    # When
    with pytest.raises(ProcessDied):
        run._follow(Mock(raw=passed(0).encode(), receive=receive))
    run._spool.close()
    # Then
    assert (
        any(isinstance(entry.fact, Recorded) for entry in ledger.read("0", block_ms=0).entries)
        is sent
    )
