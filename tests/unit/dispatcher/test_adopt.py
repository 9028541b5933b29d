"""Claims about `dispatcher.adopt`: whose word counts when a run is taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.dispatcher.adopt import adopt
from dct_celery.dispatcher.conduct import Conduct
from dct_celery.dispatcher.head import Head, compress, hollow
from dct_celery.errors import StoreUnavailable
from dct_celery.ports import DISPATCHER_LEASE_MS
from dct_celery.security import signing
from tests.support.memory_ledger import MemoryLedger, MemoryStore

SPEC = signing.sign({"run": "one", "environment": {"API_TOKEN": "hush-hush"}}, "key")
HEAD = Head("one", hollow(SPEC), "m", 1.0, {}, {}, {}, [])


@pytest.mark.parametrize("begun", ["", '{"run":"o'], ids=["nothing", "half a line"])
def test_a_journal_without_its_first_line_is_no_obstacle_to_what_the_store_has(tmp_path: Path, begun: str) -> None:
    # Given a dispatcher that died before it had written anything to its journal
    store = MemoryStore()
    ledger = MemoryLedger(store, "one")
    ledger.open_run("me", SPEC)
    ledger.publish_head(compress(HEAD.text("key")))
    (tmp_path / "one.jsonl").write_text(begun)
    store.clock.ms += DISPATCHER_LEASE_MS + 1
    services: Any = Mock(run="one", owner="you", key="key", ledger=ledger, journals=tmp_path)
    # When
    adopted = adopt(services)
    # Then
    assert adopted.head == HEAD
    assert (adopted.whole, adopted.spec) == (True, SPEC)
    adopted.journal.close()
    assert (tmp_path / "one.jsonl").read_text() == f"{HEAD.text('key')}\n"


def test_a_store_that_goes_away_while_a_run_is_taken_over_leaves_the_run_to_the_next_attach() -> None:
    # Given
    conduct: Any = Conduct.__new__(Conduct)
    conduct._head, conduct._services, conduct._standing = HEAD, Mock(key="key"), Mock()
    conduct._collected = Mock(manifest=[])
    conduct._follower = Mock(catch_up=Mock(side_effect=StoreUnavailable("gone")))
    # Then
    with pytest.raises(StoreUnavailable):
        conduct.go_on(Mock(), whole=True)
    conduct._standing.hand_over.assert_called_once_with()
