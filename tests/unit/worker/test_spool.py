"""Claims about `worker.spool`: no record is forgotten before the dispatcher has it (I3)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dct_celery.worker.spool import Spool, sweep
from tests.support.memory_ledger import MemoryLedger, MemoryStore


@pytest.fixture
def ledger() -> MemoryLedger:
    ledger = MemoryLedger(MemoryStore(), "run-one")
    ledger.open_run("ci", "spec")
    return ledger


def spooled(folder: Path, chunk: str = "c1", attempt: int = 1, count: int = 2) -> Spool:
    """A spool that has come to its end."""
    spool = Spool(folder, chunk, attempt)
    for number in range(count):
        spool.add(json.dumps({"kind": "TestFinished", "index": number}))
    spool.close()
    return spool


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_records_are_numbered_from_one(tmp_path: Path) -> None:
    # Given
    spool = Spool(tmp_path, "c1", 2)
    # When
    spool.add("{}")
    spool.add("{}")
    # Then
    assert spool.seq == 2
    assert spool.key == "c1.2"
    spool.close()


def test_a_flushed_record_survives_the_death_of_the_slot(tmp_path: Path) -> None:
    # Given
    spool = Spool(tmp_path, "c1", 1)
    spool.add('{"index":7}')
    # When
    spool.flush()
    # Then
    assert (tmp_path / "c1.1.jsonl").read_text() == '{"index":7}\n'
    spool.close()


def test_what_is_acknowledged_to_its_end_is_swept(tmp_path: Path, ledger: MemoryLedger) -> None:
    # Given
    spooled(tmp_path)
    spooled(tmp_path, "c2")
    # When
    ledger.acknowledge({"c1.1": 2})
    left = sweep(tmp_path, ledger)
    # Then
    assert left == 1
    assert names(tmp_path) == ["c2.1.jsonl"]


@pytest.mark.parametrize("position", [None, 0, 1])
def test_what_is_not_acknowledged_to_its_end_stays(tmp_path: Path, ledger: MemoryLedger, position: int | None) -> None:
    # Given
    spooled(tmp_path)
    # When
    ledger.acknowledge({} if position is None else {"c1.1": position})
    # Then
    assert sweep(tmp_path, ledger) == 1
    assert names(tmp_path) == ["c1.1.jsonl"]


def test_the_acknowledgement_of_one_attempt_frees_no_other(tmp_path: Path, ledger: MemoryLedger) -> None:
    # Given
    spooled(tmp_path, attempt=2)
    # When
    ledger.acknowledge({"c1.1": 2})
    # Then
    assert sweep(tmp_path, ledger) == 1


def test_a_spool_that_is_being_written_stays_whatever_was_acknowledged(tmp_path: Path, ledger: MemoryLedger) -> None:
    # Given
    spool = Spool(tmp_path, "c1", 1)
    spool.add('{"index":1}')
    spool.flush()
    # When
    ledger.acknowledge({"c1.1": 100})
    # Then
    assert sweep(tmp_path, ledger) == 1
    spool.close()


@pytest.mark.parametrize("rest", [b"", b"\n", b'{"index":1', b'{"end":', b'{"end": "2"}\n', b"[2]\n", b"\xff\n"])
def test_a_torn_spool_stays(tmp_path: Path, ledger: MemoryLedger, rest: bytes) -> None:
    # Given
    (tmp_path / "c1.1.jsonl").write_bytes(rest)
    # When
    ledger.acknowledge({"c1.1": 100})
    # Then
    assert sweep(tmp_path, ledger) == 1


def test_a_chunk_without_records_leaves_nothing(tmp_path: Path, ledger: MemoryLedger) -> None:
    # Given
    spooled(tmp_path, count=0)
    # Then
    assert sweep(tmp_path, ledger) == 0
    assert names(tmp_path) == []


def test_the_end_is_found_behind_a_long_record(tmp_path: Path, ledger: MemoryLedger) -> None:
    # Given
    spool = Spool(tmp_path, "c1", 1)
    spool.add(json.dumps({"output": "x" * 10_000}))
    spool.close()
    # When
    ledger.acknowledge({"c1.1": 1})
    # Then
    assert sweep(tmp_path, ledger) == 0


def test_an_empty_folder_is_swept_clean(tmp_path: Path, ledger: MemoryLedger) -> None:
    assert sweep(tmp_path, ledger) == 0
