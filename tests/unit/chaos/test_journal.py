"""The harness's view of a run by its journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.chaos.journal import Heard, Tail


def line(at_ms: int, kind: str, **fields: Any) -> str:
    """As the dispatcher writes it; `data` is what the author of the entry has signed."""
    signed = (
        {"d": f"dct4.0123456789ab.mac.{json.dumps(fields.pop('data'))}"} if "data" in fields else {}
    )
    return (
        json.dumps(
            {"id": f"{at_ms}-0", "k": kind, "c": "c1", "w": "build-a@host", **signed, **fields}
        )
        + "\n"
    )


def verdict(index: int, outcome: str = "passed", **fields: Any) -> dict[str, Any]:
    return {"kind": "TestFinished", "index": index, "outcome": outcome, **fields}


def test_verdicts_and_claims_are_taken_as_the_file_grows(tmp_path: Path) -> None:
    # Given
    path = tmp_path / "run.jsonl"
    tail = Tail(path)
    tail.poll()
    records = line(
        2000, "records", data=[verdict(3), {"kind": "FixtureFinished"}, verdict(4, "not_run")]
    )
    # When half of a line is there, and the rest comes later
    path.write_text(line(1000, "claimed") + records[:40])
    tail.poll()
    before = set(tail.done)
    path.write_text(line(1000, "claimed") + records)
    tail.poll()
    # Then
    assert before == set()
    assert tail.done == {3}
    assert tail.first("claimed", 0.0, lambda one: one.worker == "build-a") == 1.0
    assert tail.first("verdict", 1.5, lambda one: one.index == 3) == 2.0
    assert tail.first("verdict", 2.0, lambda one: True) is None


def test_a_test_whose_class_could_not_be_set_up_has_its_verdict(tmp_path: Path) -> None:
    # Given
    path = tmp_path / "run.jsonl"
    path.write_text(
        line(1, "records", data=[verdict(5, "not_run", covered_by="setUpClass (t.A)")])
        + "no json\n"
    )
    tail = Tail(path)
    # When
    tail.poll()
    # Then
    assert tail.done == {5}


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    # Given
    path = tmp_path / "run.jsonl"
    path.write_text(line(1000, "claimed"))
    tail = Tail(path)
    # When
    tail.poll()
    tail.poll()
    # Then
    assert len(tail.heard) == 1


def test_what_a_chunk_offers_is_taken(tmp_path: Path) -> None:
    # Given
    path = tmp_path / "run.jsonl"
    path.write_text(line(1000, "offered", w="", data={"id": "c1", "indices": [4, 7]}))
    tail = Tail(path)
    # When
    tail.poll()
    # Then
    assert [one.indices for one in tail.heard if one.what == "offered"] == [frozenset({4, 7})]


def test_idle_is_time_in_which_a_worker_holds_nothing() -> None:
    # Given: build-a from 2 to 5 and from 6 on, where its end went unheard; build-b from 1 to 8
    tail = Tail(Path("unused"))
    moves = [
        (1, "claimed", "c1", "b"),
        (2, "claimed", "c2", "a"),
        (5, "expired", "c2", "a"),
        (6, "claimed", "c3", "a"),
    ]
    moves += [(7, "claimed", "c4", "a"), (8, "completed", "c1", "b")]
    tail.heard += [Heard(at, what, chunk, -1, worker) for at, what, chunk, worker in moves]
    # Then
    assert tail.idle(0, 10, {"a", "b"}) == 2 + 1 + 2
    assert tail.idle(3, 5.5, {"a", "b"}) == 0.5
    assert tail.idle(3, 7, {"b"}) == 0
    assert tail.idle(9, 9, {"a", "b"}) == 0
