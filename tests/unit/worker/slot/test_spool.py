"""Claims about `worker.slot.spool`: no record is forgotten before the dispatcher has it (I3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dct_celery.core.model import Chunk, Need, Outcome, Phase
from dct_celery.core.run.events import ChunkCompleted, ChunkReleased, Ended, Recorded, ReleaseReason
from dct_celery.core.run.records import TestRecord
from dct_celery.ports import RunContents
from dct_celery.protocol.leases import OutstandingChunk, WriteAnswer
from dct_celery.wire.messages import TestFinished
from dct_celery.worker.slot import spool as spools
from dct_celery.worker.slot.spool import Spool, send_again, sweep
from tests.support.factories import held, make_spec, run_door
from tests.support.memory_ledger import MemoryLedger, MemoryStore

OWNER = "01234567"


@pytest.fixture
def ledger() -> MemoryLedger:
    ledger = MemoryLedger(MemoryStore(), "run-one", run_door())
    ledger.open_run(OWNER, make_spec())
    return ledger


def spooled(
    folder: Path, chunk: str = "c1", attempt: int = 1, count: int = 2, fence: int = 1
) -> Spool:
    """A complete spool, whose end the store got in the first epoch."""
    spool = Spool(folder, held(fence, chunk=chunk, attempt=attempt))
    for number in range(count):
        spool.add(record(number))
    spool.end(ChunkCompleted(), 1)
    spool.close()
    return spool


def record(index: int, output: str = "") -> str:
    return TestFinished(index, Outcome.PASSED, 0.1, output=output).encode().decode()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_records_are_numbered_from_one(tmp_path: Path) -> None:
    # Given
    spool = Spool(tmp_path, held(1, attempt=2))
    # When
    spool.add("{}")
    spool.add("{}")
    # Then
    assert spool.seq == 2
    assert spool.key == "c1.2"
    spool.close()


def test_a_flushed_record_survives_the_death_of_the_slot(tmp_path: Path) -> None:
    # Given
    spool = Spool(tmp_path, held(1))
    spool.add('{"index":7}')
    # When
    spool.flush()
    # Then
    assert (tmp_path / "c1.1.jsonl").read_text().splitlines()[1:] == ['{"index":7}']
    spool.close()


def test_what_is_acknowledged_to_its_end_is_swept(tmp_path: Path, ledger: MemoryLedger) -> None:
    # Given
    spooled(tmp_path)
    spooled(tmp_path, "c2")
    # When
    ledger.commit(acknowledged={"c1.1": 3})
    left = sweep(tmp_path, ledger)
    # Then
    assert left == 1
    assert names(tmp_path) == ["c2.1.jsonl"]


@pytest.mark.parametrize("position", [None, 0, 1, 2])
def test_what_is_not_acknowledged_to_its_end_stays(
    tmp_path: Path, ledger: MemoryLedger, position: int | None
) -> None:
    # Given
    spooled(tmp_path)
    # When
    ledger.commit(acknowledged={} if position is None else {"c1.1": position})
    # Then
    assert sweep(tmp_path, ledger) == 1
    assert names(tmp_path) == ["c1.1.jsonl"]


def test_the_acknowledgement_of_one_attempt_frees_no_other(
    tmp_path: Path, ledger: MemoryLedger
) -> None:
    # Given
    spooled(tmp_path, attempt=2)
    # When
    ledger.commit(acknowledged={"c1.1": 3})
    # Then
    assert sweep(tmp_path, ledger) == 1


def test_a_spool_that_is_being_written_stays_whatever_was_acknowledged(
    tmp_path: Path, ledger: MemoryLedger
) -> None:
    # Given
    spool = Spool(tmp_path, held(1))
    spool.add('{"index":1}')
    spool.flush()
    # When
    ledger.commit(acknowledged={"c1.1": 100})
    # Then
    assert sweep(tmp_path, ledger) == 0
    assert names(tmp_path) == ["c1.1.jsonl"]
    spool.close()


@pytest.mark.parametrize(
    "rest", [b"", b"\n", b'{"index":1', b'{"end":', b'{"end": "2"}\n', b"[2]\n", b"\xff\n"]
)
def test_a_torn_spool_stays(tmp_path: Path, ledger: MemoryLedger, rest: bytes) -> None:
    # Given
    (tmp_path / "c1.1.jsonl").write_bytes(rest)
    # When
    ledger.commit(acknowledged={"c1.1": 100})
    sweep(tmp_path, ledger)
    # Then
    assert names(tmp_path) == ["c1.1.jsonl"]


def test_an_attempt_that_was_refused_leaves_nothing(tmp_path: Path) -> None:
    # Given
    spool = Spool(tmp_path, held(1))
    spool.add('{"index":1}')
    # When it is closed without an end
    spool.close()
    # Then
    assert names(tmp_path) == []


def test_the_end_of_a_chunk_is_journalled_like_a_record(
    tmp_path: Path, ledger: MemoryLedger
) -> None:
    # Given
    spooled(tmp_path, count=0)
    assert sweep(tmp_path, ledger) == 1
    # When
    ledger.commit(acknowledged={"c1.1": 1})
    # Then
    assert sweep(tmp_path, ledger) == 0
    assert names(tmp_path) == []


def test_the_end_is_found_behind_a_long_record(tmp_path: Path, ledger: MemoryLedger) -> None:
    # Given
    spool = Spool(tmp_path, held(1))
    spool.add(record(1, "x" * 300_000))
    spool.end(ChunkReleased(ReleaseReason.CRASH, detail="\x00" * 20_000), 1)
    spool.close()
    # When
    ledger.commit(acknowledged={"c1.1": 2})
    # Then
    assert sweep(tmp_path, ledger) == 0


def test_an_empty_folder_is_swept_clean(tmp_path: Path, ledger: MemoryLedger) -> None:
    assert sweep(tmp_path, ledger) == 0


# -- after the store was wiped ---------------------------------------------------------

CHUNK = Chunk("c1", (0, 1, 2), Phase.ISOLATED, Need.PRISTINE)


@pytest.fixture
def wiped(ledger: MemoryLedger) -> MemoryLedger:
    """A run that was put back with c1 leased under fence 7, one record of it journalled."""
    ledger.reopen(
        OWNER, 2, RunContents(make_spec()), [OutstandingChunk(CHUNK, held(7), 1000)], {"c1.1": 1}
    )
    return ledger


def told(ledger: MemoryLedger) -> list[Recorded | Ended]:
    """What a worker has sent to the store; all of it is trusted."""
    page = ledger.read("0", block_ms=0)
    assert not page.rejected
    return [entry.fact for entry in page.entries if isinstance(entry.fact, (Recorded, Ended))]


def indices(fact: Recorded | Ended) -> list[int]:
    assert isinstance(fact, Recorded)
    return [one.index for one in fact.records if isinstance(one, TestRecord)]


def test_what_the_dispatcher_has_not_journalled_is_sent_again_with_its_end(
    tmp_path: Path, wiped: MemoryLedger
) -> None:
    # Given
    spooled(tmp_path, count=3, fence=7)
    # When
    sent = send_again(tmp_path, wiped, 2, 1000)
    # Then
    assert sent == 1
    records, end = told(wiped)
    assert (indices(records), records.seq) == ([1, 2], 3)
    assert end == Ended(held(7, epoch=2), 3, ChunkCompleted())


def test_it_is_sent_again_once_per_epoch(tmp_path: Path, wiped: MemoryLedger) -> None:
    # Given
    spooled(tmp_path, count=3, fence=7)
    send_again(tmp_path, wiped, 2, 1000)
    before = told(wiped)
    # When
    again = send_again(tmp_path, wiped, 2, 1000)
    # Then
    assert again == 0
    assert told(wiped) == before
    wiped.commit(acknowledged={"c1.1": 4})
    assert sweep(tmp_path, wiped) == 0


def test_many_records_go_in_several_writes(tmp_path: Path, wiped: MemoryLedger) -> None:
    # Given
    spool = Spool(tmp_path, held(7))
    for number in range(5):
        spool.add(record(number, "x" * 60_000))
    spool.end(ChunkCompleted(), 1)
    spool.close()
    # When
    send_again(tmp_path, wiped, 2, 1000)
    # Then
    facts = told(wiped)
    assert [index for fact in facts[:-1] for index in indices(fact)] == [1, 2, 3, 4]
    assert [fact.seq for fact in facts] == [4, 5, 5]


def test_an_attempt_that_still_runs_is_left_to_its_slot(
    tmp_path: Path, wiped: MemoryLedger
) -> None:
    # Given
    spool = Spool(tmp_path, held(7))
    spool.add('{"index":1}')
    spool.flush()
    # Then
    assert send_again(tmp_path, wiped, 2, 1000) == 0
    assert spool.after(0) == ['{"index":1}']
    assert spool.after(1) == []
    spool.close()


def test_what_is_swept_while_it_is_sent_again_stays_away(
    tmp_path: Path, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: its slot learns of the acknowledgement at that very moment
    spooled(tmp_path, count=0)

    def end(*_: object) -> WriteAnswer:
        (tmp_path / "c1.1.jsonl").unlink()
        return WriteAnswer.LOST

    monkeypatch.setattr(ledger, "end", end)
    # When
    send_again(tmp_path, ledger, 2, 1000)
    # Then
    assert names(tmp_path) == []


# -- damaged files -----------------------------------------------------------------------

RECORDS = [record(index, output="x" * index) for index in range(4)]
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["end", "kind", "epoch", "body"]), inner, max_size=3)
    ),
    max_leaves=5,
)
GARBAGE = st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode())


def cut(lines: list[bytes], data: st.DataObject) -> bytes:
    whole = b"".join(lines)
    return whole[: data.draw(st.integers(0, len(whole) - 1))]


def with_a_line_more(lines: list[bytes], data: st.DataObject) -> bytes:
    lines.insert(data.draw(st.integers(0, len(lines))), data.draw(GARBAGE) + b"\n")
    return b"".join(lines)


def with_a_line_less(lines: list[bytes], data: st.DataObject) -> bytes:
    del lines[data.draw(st.integers(0, len(lines) - 1))]
    return b"".join(lines)


def with_another_line(lines: list[bytes], data: st.DataObject) -> bytes:
    lines[data.draw(st.integers(0, len(lines) - 1))] = data.draw(GARBAGE) + b"\n"
    return b"".join(lines)


def with_a_line_twice(lines: list[bytes], data: st.DataObject) -> bytes:
    at = data.draw(st.integers(0, len(lines) - 1))
    return b"".join([*lines[:at], lines[at], *lines[at:]])


def without_line_breaks(lines: list[bytes], data: st.DataObject) -> bytes:
    return b"".join(lines).replace(
        b"\n", data.draw(st.sampled_from([b"", b"\r", b"\x00", b"\xff"]))
    )


def with_a_field_of_another_type(lines: list[bytes], data: st.DataObject) -> bytes:
    at = data.draw(st.integers(0, len(lines) - 1))
    row = json.loads(lines[at])
    name = data.draw(st.sampled_from(sorted(row)))
    row[name] = data.draw(JSON.filter(lambda value: type(value) is not type(row[name])))
    lines[at] = json.dumps(row).encode() + b"\n"
    return b"".join(lines)


DAMAGES = [
    cut,
    with_a_line_more,
    with_a_line_less,
    with_another_line,
    with_a_line_twice,
    without_line_breaks,
    with_a_field_of_another_type,
]


def wiped_ledger() -> MemoryLedger:
    ledger = MemoryLedger(MemoryStore(), "run-one", run_door())
    ledger.open_run(OWNER, make_spec())
    ledger.reopen(OWNER, 2, RunContents(make_spec()), [OutstandingChunk(CHUNK, held(7), 1000)], {})
    return ledger


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_damaged_spool_only_whole_records_are_sent(
    damage: Callable[[list[bytes], st.DataObject], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        # Given
        folder, ledger = tmp_path_factory.mktemp("spool"), wiped_ledger()
        spool = Spool(folder, held(7))
        for one in RECORDS:
            spool.add(one)
        spool.end(ChunkCompleted(), 1)
        spool.close()
        path = folder / "c1.1.jsonl"
        path.write_bytes(damage(path.read_bytes().splitlines(keepends=True), data))
        # When
        sweep(folder, ledger)
        send_again(folder, ledger, 2, 1000)
        send_again(folder, ledger, 3, 1000)
        sweep(folder, ledger)
        # Then what was sent can be believed, and has no holes
        facts = told(ledger)
        assert [
            index for fact in facts if isinstance(fact, Recorded) for index in indices(fact)
        ] in ([], [0, 1, 2, 3])
        assert {fact.lease.key for fact in facts} <= {"c1.1"}

    check()


def test_a_spool_with_two_records_in_one_line_is_not_sent(
    tmp_path: Path, wiped: MemoryLedger
) -> None:
    # Given numbers that would be those of other records
    spool = Spool(tmp_path, held(7))
    for one in (RECORDS[0], f"{RECORDS[1]},{RECORDS[2]}", RECORDS[3]):
        spool.add(one)
    spool.end(ChunkCompleted(), 1)
    spool.close()
    # When
    sent = send_again(tmp_path, wiped, 2, 1000)
    # Then
    assert (sent, told(wiped), names(tmp_path)) == (0, [], [])


def test_a_spool_under_another_name_is_not_sent(tmp_path: Path, wiped: MemoryLedger) -> None:
    # Given
    spooled(tmp_path, count=3, fence=7)
    (tmp_path / "c1.1.jsonl").rename(tmp_path / "c1.2.jsonl")
    # When
    sent = send_again(tmp_path, wiped, 2, 1000)
    # Then
    assert (sent, told(wiped), names(tmp_path)) == (0, [], [])


def test_a_folder_in_place_of_a_spool_does_not_hold_up_the_others(
    tmp_path: Path, wiped: MemoryLedger
) -> None:
    # Given
    (tmp_path / "a.1.jsonl").mkdir()
    spooled(tmp_path, count=3, fence=7)
    # When
    sent = send_again(tmp_path, wiped, 2, 1000)
    # Then
    assert sent == 1
    wiped.commit(acknowledged={"c1.1": 4})
    assert sweep(tmp_path, wiped) == 0


def test_a_full_disk_does_not_hold_up_the_others(
    tmp_path: Path, wiped: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two spools, and a disk that takes nothing
    spooled(tmp_path, count=3, fence=7)
    spooled(tmp_path, "c2", count=3, fence=8)
    asked: list[str] = []
    whole = spools._whole

    def full(path: Path, line: Any) -> Any:
        asked.append(path.stem)
        whole(path, line)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spools, "_whole", full)
    # When
    sent = send_again(tmp_path, wiped, 2, 1000)
    # Then
    assert sent == 0
    assert sorted(asked) == ["c1.1", "c2.1"]
    assert names(tmp_path) == ["c1.1.jsonl", "c2.1.jsonl"]
