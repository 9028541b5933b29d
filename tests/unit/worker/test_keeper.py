"""Claims about `worker.keeper`: what a store that is away for a while may cost a run on this worker, which is nothing."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.errors import LeaseLost, StoreUnavailable
from dct_celery.security import signing
from dct_celery.worker import keeper as keepers
from dct_celery.worker.keeper import RunKeeper
from dct_celery.worker.preparation import Preparation, Refused


class Ledger:
    """Notes what it is told; the first `failures` calls of any kind find no store."""

    def __init__(self, failures: int = 0, manifest: str | None = None) -> None:
        self.failures = failures
        self.told: list[str] = []
        self._manifest = manifest

    def _answer(self) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise StoreUnavailable("gone")

    def tell(self, worker: str, word: dict[str, Any]) -> None:
        self._answer()
        self.told.append(word["state"])

    def manifest(self) -> str | None:
        self._answer()
        return self._manifest


def keeper(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, outcome: Exception) -> Any:
    """A keeper without its thread, whose preparation ends in `outcome`."""
    monkeypatch.setattr(keepers.threading, "Thread", Mock())
    monkeypatch.setattr(keepers, "Preparation", Mock(return_value=Mock(prepare=Mock(side_effect=outcome), pool=None)))
    services: Any = Mock(ledger=lambda run: ledger)
    services.name = "build-a"
    return RunKeeper(services, "one", 1, lambda: None)


def test_a_refusal_is_heard_though_the_store_was_away_when_it_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    ledger = Ledger(failures=2)
    one = keeper(monkeypatch, ledger, Refused("the suite differs"))
    # When
    one._prepare()
    assert one.state == "refused"
    for _ in range(3):
        one._tend()
    # Then
    assert ledger.told == ["refused"]


def test_a_store_that_was_wiped_is_told_again_what_was_said_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a wipe between the word and the first look after it
    ledger = Ledger()
    one = keeper(monkeypatch, ledger, Refused("the suite differs"))
    one._prepare()
    # When
    ledger.told.clear()
    one.epoch = 2
    one._tend()
    # Then
    assert ledger.told == ["refused"]


def test_a_run_that_a_wiped_store_does_not_know_yet_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    one = keeper(monkeypatch, Ledger(), LeaseLost("the run is over"))
    # When
    one._prepare()
    # Then: the host removes what has ended, and looks again
    assert one.ended


def test_the_manifest_is_waited_for_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr("dct_celery.worker.preparation._STORE_PAUSE", 0.0)
    ledger: Any = Ledger(failures=3, manifest=signing.sign({"digest": "d"}, "key"))
    preparation = Preparation(Mock(key="key"), "one", Mock(), ledger, lambda: False, 1)
    # Then
    assert preparation._manifest() == {"digest": "d"}


def test_a_run_whose_loader_died_begins_anew_once_slots_have_given_back_what_they_had(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    one = keeper(monkeypatch, Ledger(), LeaseLost("over"))
    one.state = "ready"
    one._preparation.process.alive.return_value = True
    one._mourn(100.0)
    assert one.state == "ready"
    # When
    one._preparation.process.alive.return_value = False
    one._mourn(101.0)
    # Then: nobody begins anything here
    assert (one.state, one.ended) == ("preparing", False)
    one._folder.unpublish.assert_called_once_with()
    # And later
    one._mourn(101.0 + keepers.GIVE_BACK + 0.1)
    assert one.ended
