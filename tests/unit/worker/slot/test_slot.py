"""Claims about `worker.slot.slot`: a message of the broker is a hint, and only the ledger decides
when its dispatcher has signed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dct_celery.core import codec
from dct_celery.core.model import Chunk, Need, Phase
from dct_celery.core.run.events import ChunkReleased, Claimed, Ended, ReleaseReason
from dct_celery.core.run.leases import LeaseRef
from dct_celery.protocol import stream
from dct_celery.protocol.door import MAX_TEXT
from dct_celery.protocol.runs import CancelOrder, ChunkHint
from dct_celery.settings import Settings
from dct_celery.worker.folders.work_folder import PublishedRun, WorkFolder
from dct_celery.worker.slot import slot as slots
from dct_celery.worker.slot.slot import Slot
from tests.support.factories import KEY_ID, NONCE, OTHER_KEY, fences, make_spec, pool_door, run_door
from tests.support.fake_clock import FakeClock
from tests.support.memory_ledger import MemoryLedger, MemoryStore

RUN = "run-one"
CHUNK = Chunk("c1", (0, 1), Phase.ISOLATED, Need.PRISTINE)
OTHER_CHUNK = Chunk("c2", (2, 3), Phase.ISOLATED, Need.PRISTINE)
HINT = ChunkHint(RUN, "c1", 1)


class Scene:
    """A slot of a worker that is ready for one run, with two chunks on offer. Chunks are claimed
    and not run.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = MemoryStore()
        self.ledger = MemoryLedger(self.store, RUN, run_door())
        self.ledger.open_run("01234567", make_spec())
        self.offer()
        work = WorkFolder(folder)
        work.run(RUN).create()
        work.run(RUN).publish(PublishedRun(NONCE, KEY_ID, (), "ab" * 16, "owner"))
        services: Any = Mock(
            door=pool_door(),
            folder=work,
            ledger=lambda run, door: MemoryLedger(self.store, run, door),
        )
        services.name = "build-a@host"
        services.clock = self.clock = FakeClock()
        services.settings = Settings()
        #: (lease, chunk) of each chunk that the slot has begun.
        self.begun: list[tuple[LeaseRef, Chunk]] = []
        self.handed_on: list[tuple[str, str]] = []

        def run(_: object, lease: LeaseRef, chunk: Chunk, *__: object) -> Any:
            self.begun.append((lease, chunk))
            return Mock(execute=lambda: "completed")

        monkeypatch.setattr(slots, "ChunkRun", run)
        self.slot = Slot(services, 3, lambda run, message: self.handed_on.append((run, message)))

    def offer(self) -> None:
        for chunk in (CHUNK, OTHER_CHUNK):
            self.ledger.commit([chunk])

    def facts(self) -> list[Any]:
        return [entry.fact for entry in self.ledger.read("0", block_ms=0).entries]

    def assert_nothing_was_claimed(self) -> None:
        assert fences(self.ledger, ["c1", "c2"]) == [0, 0]
        assert not any(isinstance(fact, Claimed) for fact in self.facts())
        assert self.begun == []
        assert self.handed_on == []


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(tmp_path, monkeypatch)
    yield scene
    scene.slot.close()


def test_a_message_of_the_runs_dispatcher_is_a_claim(scene: Scene) -> None:
    # When
    result = scene.slot.run(run_door().seal(HINT))
    # Then
    assert result == "completed"
    assert scene.begun == [(LeaseRef("c1", 1, 1, "build-a@host", 3), CHUNK)]


def sealed(door: Any = None, message: Any = HINT) -> str:
    return str((door or run_door()).seal(message))


def forged(body: str) -> str:
    return f"dct4.{KEY_ID}.{'A' * 43}.{body}"


HOSTILE = {
    "nothing": "",
    "garbage": "hello",
    "bytes": "\x00\xff\udcff",
    "its beginning": "dct4",
    "no body": f"dct4.{KEY_ID}.mac.",
    "not JSON": forged("{"),
    "a list": forged("[]"),
    "deep nesting": forged("[" * 200_000),
    "deeper in a field": forged('{"run":' + '{"a":' * 200_000),
    "too long": "x" * (MAX_TEXT + 1),
    "long": forged(f'{{"run":"{RUN}","chunk":"{"c" * 1_000_000}","attempt":1}}'),
    "no signature": codec.dumps(HINT),
    "a made-up signature": forged(codec.dumps(HINT)),
    "an older version's": sealed().replace("dct4.", "dct3.", 1),
    "cut": sealed()[:-1],
    "another attempt": sealed().replace('"attempt":1', '"attempt":2'),
    "another chunk": sealed().replace('"chunk":"c1"', '"chunk":"c2"'),
    "another key": sealed(run_door(RUN, OTHER_KEY)),
    "another pool": sealed(run_door(pool="another")),
    "a run of the same name": sealed(run_door(nonce="f" * 16)),
    "another run's": sealed(run_door("run-two")),
    "the pool's own": sealed(pool_door()),
    "another kind": run_door().seal_text("CancelOrder", codec.dumps(HINT)),
    "an offer": stream.offer(run_door(), CHUNK, 1),
    "an order": sealed(message=CancelOrder("stop")),
    "a path": sealed(message=replace(HINT, run="../../../etc")),
    "an absolute path": sealed(message=replace(HINT, run="/etc/passwd")),
    "no run": sealed(message=replace(HINT, run="")),
    "a wrong type": run_door().seal_text(
        "ChunkHint", f'{{"run":"{RUN}","chunk":"c1","attempt":"1"}}'
    ),
    "attempt zero": sealed(message=replace(HINT, attempt=0)),
    "a field more": run_door().seal_text("ChunkHint", codec.dumps(HINT)[:-1] + ',"more":1}'),
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE.keys())
def test_any_other_message_is_refused_and_claims_nothing(scene: Scene, message: str) -> None:
    # When
    result = scene.slot.run(message)
    # Then
    assert result == "refused"
    scene.assert_nothing_was_claimed()


@pytest.mark.parametrize("message", [None, 3, True, [], {}, {"run": RUN}, [sealed()]], ids=str)
def test_what_is_no_text_is_refused(scene: Scene, message: Any) -> None:
    # When / Then
    assert scene.slot.run(message) == "refused"
    scene.assert_nothing_was_claimed()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(), max_size=100) | st.text(st.characters(), max_size=100).map(forged))
def test_no_text_ends_a_slot(scene: Scene, message: str) -> None:
    assert scene.slot.run(message) == "refused"
    scene.assert_nothing_was_claimed()


def test_a_message_of_a_run_that_is_not_here_is_ignored(scene: Scene) -> None:
    # When a message that was recorded comes under the run that it belongs to, which this worker
    # does not have
    result = scene.slot.run(sealed(run_door("run-two"), replace(HINT, run="run-two")))
    # Then
    assert result == "no-run"
    scene.assert_nothing_was_claimed()


def test_a_message_that_is_replayed_loses_at_the_claim(scene: Scene) -> None:
    # Given
    message = sealed()
    scene.slot.run(message)
    # When
    results = [scene.slot.run(message) for _ in range(3)]
    # Then
    assert results == ["held"] * 3
    assert len(scene.begun) == 1


# -- what is on offer --------------------------------------------------------------------


def test_a_chunk_that_is_given_twice_runs_in_a_fresh_fork(scene: Scene) -> None:
    # Given a chunk that was begun here, and a store that was wiped, and puts it on offer again
    scene.slot.run(sealed())
    scene.store.runs[RUN].slips.clear()
    scene.offer()
    # When
    scene.slot.run(sealed())
    scene.slot.run(sealed(message=replace(HINT, chunk="c2")))
    # Then no class runs twice in one process
    assert [(chunk.id, chunk.fresh_process) for _, chunk in scene.begun] == [
        ("c1", False),
        ("c1", True),
        ("c2", False),
    ]


OFFERS = {
    "another key's": stream.offer(run_door(RUN, OTHER_KEY), CHUNK, 1),
    "another run's": stream.offer(run_door("run-two"), CHUNK, 1),
    "of another epoch": stream.offer(run_door(), CHUNK, 2),
    "another chunk of the run": stream.offer(run_door(), OTHER_CHUNK, 1),
    "another attempt": stream.offer(run_door(), replace(CHUNK, attempt=2), 1),
    "unsigned": codec.dumps(CHUNK),
    "garbage": "\x00",
    "nothing": "",
}


@pytest.mark.parametrize("payload", OFFERS.values(), ids=OFFERS.keys())
def test_an_untrusted_claim_is_given_back_and_nothing_runs(scene: Scene, payload: str) -> None:
    # Given an attacker who has the store's password, and not the pool's key
    scene.store.runs[RUN].slips["c1"].payload = payload
    # When
    result = scene.slot.run(sealed())
    # Then the dispatcher learns of it, and offers the chunk again
    assert result == "untrusted"
    assert scene.begun == []
    ends = [fact for fact in scene.facts() if isinstance(fact, Ended)]
    assert [(end.lease, end.seq) for end in ends] == [(LeaseRef("c1", 1, 1, "build-a@host", 3), 0)]
    (end,) = (end.end for end in ends)
    assert isinstance(end, ChunkReleased)
    assert end.why is ReleaseReason.UNTRUSTED
    assert fences(scene.ledger, ["c1"]) == [None]
