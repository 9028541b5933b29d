"""Claims about `dispatcher.standing`: a run is alive for others from its opening on, whatever its dispatcher is busy with."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.dispatcher.standing import PATIENCE, StandingRun
from dct_celery.errors import StoreUnavailable
from dct_celery.ports import ABANDONED_MS
from tests.support.factories import NONCE, make_spec, run_door
from tests.support.memory_ledger import MemoryLedger, MemoryStore

ME = "a" * 16


class Scene:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ledger = MemoryLedger(self.store, "run-one", run_door("run-one"))
        self.ledger.open_run(ME, make_spec("run-one"))
        self.now = 100.0
        self.services: Any = Mock(run="run-one", nonce=NONCE, owner=ME, ledger=self.ledger, clock=lambda: self.now)
        self.standing = StandingRun(self.services, make_spec("run-one"), lambda: None)


def test_a_long_collection_is_nobody_elses_reason_to_close_the_run() -> None:
    # Given
    scene = Scene()
    scene.store.clock.ms += ABANDONED_MS + 1
    # When
    scene.standing.stay()
    # Then
    assert not MemoryLedger(scene.store, "run-one", run_door("run-one")).abandon()


def test_a_store_that_is_away_while_the_suite_is_collected_is_waited_for() -> None:
    # Given
    scene = Scene()
    scene.services.registry.announce.side_effect = StoreUnavailable("gone")
    # When
    scene.standing.stay()
    scene.now += PATIENCE
    scene.standing.stay()
    # Then: once is said, and not for ever
    assert scene.services.console.warn.call_count == 1
    scene.now += 1
    with pytest.raises(StoreUnavailable):
        scene.standing.stay()
