"""Fakes of the store's ports in memory, timed by a clock that moves only when it is told to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dct_celery.core.ids import digest_of
from dct_celery.core.model import Chunk
from dct_celery.errors import Superseded
from dct_celery.ports import (
    ABANDONED_MS,
    AVOID_MS,
    DISPATCHER_LEASE_MS,
    STALL_MS,
    Adoption,
    Claim,
    Held,
    Standing,
    StreamEntry,
    WorkerInfo,
)


@dataclass
class StoreClock:
    """Milliseconds of the store's own clock."""

    ms: int = 1_000_000


@dataclass
class _Slip:
    """What the store knows of one chunk."""

    chunk: Chunk
    state: str = "queued"
    fence: int = 0
    worker: str = ""
    slot: int = 0
    until: int = 0
    lease: int = 0
    offered: int = 0


@dataclass
class _Run:
    owner: str
    spec: str
    reaped: int
    epoch: int = 1
    incarnation: str = ""
    state: str = "open"
    reason: str = ""
    manifest: str | None = None
    head: bytes | None = None
    fence: int = 0
    refused: int = 0
    slips: dict[str, _Slip] = field(default_factory=dict)
    events: list[StreamEntry] = field(default_factory=list)
    acks: dict[str, int] = field(default_factory=dict)


@dataclass
class Life:
    """Of a worker or a run: alive until, for how long it asked (both ms), and what it says of itself."""

    until: int
    horizon: int
    info: Any


@dataclass
class MemoryStore:
    """What a Redis would hold; hand it to every fake that is to see the same."""

    clock: StoreClock = field(default_factory=StoreClock)
    #: Changes when the store is started again.
    incarnation: str = "first"
    runs: dict[str, _Run] = field(default_factory=dict)
    #: pool -> name -> its life
    beating: dict[str, dict[str, Life]] = field(default_factory=dict)
    #: id of a dict in `beating` -> when it was last tended
    tended: dict[int, int] = field(default_factory=dict)
    #: pool -> when the next worker may ask for the open runs
    turns: dict[str, int] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    #: tree -> digests that workers ask its dispatcher for
    wanted: dict[str, set[str]] = field(default_factory=dict)
    timings: dict[str, dict[str, str]] = field(default_factory=dict)


class MemoryLedger:
    """Ledger of one run; see `ports.Ledger`. A second one on the same store and run sees the same."""

    def __init__(self, store: MemoryStore, run: str) -> None:
        self._store = store
        self._name = run
        self._owner = ""

    @property
    def _run(self) -> _Run | None:
        return self._store.runs.get(self._name)

    def open_run(self, owner: str, spec: str, ttl_seconds: int = 60) -> bool:
        self._owner = owner
        if self._run is not None:
            return self._run.owner == owner
        self._store.runs[self._name] = _Run(owner, spec, self._store.clock.ms, incarnation=self._store.incarnation)
        return True

    def adopt(self, owner: str, *, dead: bool) -> Adoption:
        self._owner = owner
        if (run := self._run) is None:
            return Adoption("none")
        if run.state == "closed":
            return Adoption("closed")
        left = run.reaped + DISPATCHER_LEASE_MS - self._store.clock.ms
        if not dead and run.owner != owner and left > 0:
            return Adoption("held", wait_ms=min(left, DISPATCHER_LEASE_MS))
        run.owner, run.reaped = owner, self._store.clock.ms
        return Adoption("ok", run.epoch, run.incarnation)

    def reopen(
        self,
        owner: str,
        epoch: int,
        fields: Mapping[str, str],
        standing: Sequence[Standing],
        acknowledged: Mapping[str, int],
    ) -> bool:
        self._owner = owner
        before = self._run
        if before is not None and (before.owner, before.epoch) == (owner, epoch):
            return True
        if before is not None and (before.owner != owner or before.epoch >= epoch):
            return False
        run = _Run(owner, fields["spec"], self._store.clock.ms, epoch, self._store.incarnation, fields["state"])
        run.reason = fields.get("reason", "")
        run.manifest, run.acks, run.fence = fields["manifest"], dict(acknowledged), epoch * 1_000_000
        run.head, run.refused = (before.head, before.refused) if before is not None else (None, 0)
        for one in standing:
            until = self._store.clock.ms + one.lease_ms
            state = "leased" if one.fence else "queued"
            run.slips[one.chunk.id] = _Slip(one.chunk, state, one.fence, one.worker, one.slot, until, one.lease_ms)
        self._store.runs[self._name] = run
        return True

    def restore(self, entries: Iterable[StreamEntry]) -> None:
        if run := self._run:
            run.events += [replace(entry, id=f"{len(run.events) + n}-0") for n, entry in enumerate(entries, 1)]

    def epoch(self) -> int:
        return self._run.epoch if self._run else 0

    def silence(self) -> float:
        return (self._store.clock.ms - (self._run.reaped if self._run else 0)) / 1000

    def incarnation(self) -> str:
        return self._store.incarnation

    def abandon(self) -> bool:
        run = self._run
        if run is None or run.state == "closed" or self._store.clock.ms - run.reaped < ABANDONED_MS:
            return False
        run.state = "closed"
        return True

    def spec(self) -> str | None:
        return self._run.spec if self._run else None

    def publish_manifest(self, manifest: str) -> None:
        if self._run:
            self._run.manifest = manifest

    def manifest(self) -> str | None:
        return self._run.manifest if self._run else None

    def publish_head(self, head: bytes) -> None:
        if self._run:
            self._run.head = head

    def head(self) -> bytes | None:
        return self._run.head if self._run else None

    def offer(self, chunk: Chunk) -> None:
        if not (run := self._mine()):
            return
        known = run.slips.get(chunk.id)
        if known is None or known.chunk.attempt != chunk.attempt:
            run.slips[chunk.id] = _Slip(chunk, offered=self._store.clock.ms)
            entry = StreamEntry(self._next_id(run), "offered", chunk.id, chunk.attempt, 0, "", 0, 0, chunk.to_dict(), run.epoch)
            run.events.append(replace(entry, data=json.loads(json.dumps(entry.data))))

    def claim(self, chunk: str, attempt: int, *, worker: str, slot: int, lease_ms: int) -> Claim:
        run = self._run
        if run is None:
            return Claim("no-run")
        if run.state != "open":
            return Claim("cancelled")
        slip = run.slips.get(chunk)
        if slip is None:
            return Claim("unknown")
        if slip.chunk.attempt != attempt:
            return Claim("stale")
        if slip.state != "queued":
            return Claim("held" if slip.state == "leased" else "done")
        if slip.chunk.avoid == worker and self._store.clock.ms < slip.offered + AVOID_MS:
            run.events.append(StreamEntry(self._next_id(run), "avoided", chunk, attempt, 0, worker, slot, 0, None))
            return Claim("avoid")
        run.fence += 1
        slip.state, slip.fence, slip.worker, slip.slot = "leased", run.fence, worker, slot
        slip.until, slip.lease = self._store.clock.ms + lease_ms, lease_ms
        self._say(run, "claimed", slip, data=str(lease_ms))
        return Claim("ok", run.fence, slip.chunk, run.epoch)

    def renew(self, held: Held, lease_ms: int) -> str:
        run = self._run
        slip = self._slip(run, held) if run else None
        return self._prolong(run, slip, lease_ms) if run and slip else self._refusal(run, held, moves=False)

    def append(self, held: Held, seq: int, records: str, lease_ms: int) -> str:
        run, slip = self._writable(held)
        if run is None or slip is None:
            return self._refusal(run, held)
        self._say(run, "records", slip, seq, records)
        return self._prolong(run, slip, lease_ms)

    def complete(self, held: Held, seq: int, summary: str) -> str:
        return self._end(held, "done", "completed", seq, summary)

    def release(self, held: Held, seq: int, reason: str) -> str:
        return self._end(held, "released", "released", seq, reason)

    def reap(self) -> list[str]:
        if not (run := self._mine()):
            return []
        now = self._store.clock.ms
        gap, run.reaped = now - run.reaped, now
        leased = [slip for slip in run.slips.values() if slip.state == "leased"]
        if gap > STALL_MS or gap < 0:
            for slip in leased:
                slip.until = min(slip.until + max(gap, 0), now + slip.lease)
        late = [slip for slip in leased if slip.until <= now]
        for slip in late:
            slip.state = "expired"
            self._say(run, "expired", slip)
        return [slip.chunk.id for slip in late]

    def tell(self, worker: str, message: Mapping[str, Any]) -> None:
        if run := self._run:
            data = json.loads(json.dumps(message))
            run.events.append(StreamEntry(self._next_id(run), "host", "", 0, 0, worker, 0, 0, data, run.epoch))

    def read(self, after: str, *, block_ms: int, count: int = 500) -> list[StreamEntry]:
        events = self._run.events if self._run else []
        position = int(after.partition("-")[0])
        return [event for event in events if int(event.id.partition("-")[0]) > position][:count]

    def acknowledge(self, positions: Mapping[str, int]) -> None:
        if run := self._run:
            run.acks.update(positions)

    def acknowledged(self, keys: Sequence[str]) -> list[int]:
        acks = self._run.acks if self._run else {}
        return [acks.get(key, 0) for key in keys]

    def cancel(self, reason: str) -> None:
        if self._run and self._run.state == "open":
            self._run.state, self._run.reason = "cancelled", reason

    def state(self) -> str:
        return self._run.state if self._run else "none"

    def reason(self) -> str:
        return self._run.reason if self._run else ""

    def refused(self) -> int:
        return self._run.refused if self._run else 0

    def extend(self, ttl_seconds: int = 60) -> None: ...

    def close(self) -> None:
        if self._run:
            self._run.state = "closed"

    def _mine(self) -> _Run | None:
        if self._run and self._run.owner != self._owner:
            raise Superseded(f"run {self._name} was adopted by another dispatcher")
        return self._run

    def _slip(self, run: _Run, held: Held) -> _Slip | None:
        """The chunk for its holder; None for anybody else, which is counted."""
        slip = run.slips.get(held.chunk)
        if slip is None or slip.state != "leased" or slip.fence != held.fence:
            run.refused += run.fence >= held.fence
            return None
        return slip

    def _writable(self, held: Held) -> tuple[_Run | None, _Slip | None]:
        run = self._run
        if run is None or run.epoch != held.epoch:
            return run, None
        return run, self._slip(run, held)

    @staticmethod
    def _refusal(run: _Run | None, held: Held, *, moves: bool = True) -> str:
        if run is None:
            return "gone"
        if moves and held.epoch != run.epoch:
            return "moved"
        return "gone" if run.fence < held.fence else "lost"

    def _prolong(self, run: _Run, slip: _Slip, lease_ms: int) -> str:
        slip.until = self._store.clock.ms + lease_ms
        return "ok" if run.state == "open" else "cancelled"

    def _end(self, held: Held, state: str, kind: str, seq: int, data: str) -> str:
        run, slip = self._writable(held)
        if run is None or slip is None:
            return self._refusal(run, held)
        slip.state = state
        self._say(run, kind, slip, seq, data)
        return "ok"

    def _say(self, run: _Run, kind: str, slip: _Slip, seq: int = 0, data: str = "") -> None:
        lease = (slip.chunk.id, slip.chunk.attempt, slip.fence, slip.worker, slip.slot)
        run.events.append(StreamEntry(self._next_id(run), kind, *lease, seq, json.loads(data) if data else None, run.epoch))

    def _next_id(self, run: _Run) -> str:
        return f"{len(run.events) + 1}-0"


class MemoryRegistry:
    """Workers and runs of one pool; see `ports.Registry`."""

    def __init__(self, store: MemoryStore, pool: str, *, tends: bool = True) -> None:
        self._store = store
        self._clock = store.clock
        self._tends = tends
        self._pool = pool
        self._runs = store.beating.setdefault(f"{pool}:runs", {})
        self._workers = store.beating.setdefault(f"{pool}:workers", {})

    def announce(self, run: str, horizon_seconds: float, epoch: int = 1) -> None:
        self._say(self._runs, run, horizon_seconds, epoch)

    def withdraw(self, run: str) -> None:
        self._runs.pop(run, None)

    def active_runs(self) -> dict[str, int]:
        return dict(self._alive(self._runs))

    def open_runs(self, turn_seconds: float) -> list[str]:
        if self._clock.ms < self._store.turns.get(self._pool, 0):
            return []
        self._store.turns[self._pool] = self._clock.ms + int(turn_seconds * 1000)
        return [name for name, run in self._store.runs.items() if run.state != "closed"]

    def beat(self, info: WorkerInfo, horizon_seconds: float) -> None:
        self._say(self._workers, info.name, horizon_seconds, info)

    def leave(self, name: str) -> None:
        self._workers.pop(name, None)

    def workers(self) -> list[WorkerInfo]:
        return [info for _, info in self._alive(self._workers)]

    def _say(self, members: dict[str, Life], name: str, horizon_seconds: float, info: Any) -> None:
        self._tend(members)
        horizon = int(horizon_seconds * 1000)
        members[name] = Life(self._clock.ms + horizon, horizon, info)

    def _alive(self, members: dict[str, Life]) -> list[tuple[str, Any]]:
        self._tend(members)
        alive = sorted((life.until, name) for name, life in members.items() if life.until > self._clock.ms)
        return [(name, members[name].info) for _, name in alive]

    def _tend(self, members: dict[str, Life]) -> None:
        if not self._tends:
            return
        now = self._clock.ms
        gap = now - self._store.tended.get(id(members), now)
        self._store.tended[id(members)] = now
        for name, life in list(members.items()):
            if gap > STALL_MS or gap < 0:
                life.until = min(life.until + max(gap, 0), now + life.horizon)
            if life.until <= now:
                del members[name]


class MemoryBlobs:
    """See `ports.BlobStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._blobs = store.blobs
        self._wanted = store.wanted

    def missing(self, digests: Sequence[str]) -> set[str]:
        return set(digests) - self._blobs.keys()

    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        self._blobs.update(blobs)

    def get(self, sizes: Mapping[str, int]) -> dict[str, bytes]:
        there = {digest: self._blobs[digest] for digest in sizes if digest in self._blobs}
        for digest, content in list(there.items()):
            if digest_of(content) != digest or len(content) > sizes[digest]:
                del there[digest], self._blobs[digest]
        return there

    def want(self, tree: str, digests: Iterable[str]) -> None:
        self._wanted.setdefault(tree, set()).update(digests)

    def wanted(self, tree: str) -> set[str]:
        return self._wanted.pop(tree, set())


class MemoryTimings:
    """See `ports.TimingStore`."""

    def __init__(self, store: MemoryStore, project: str) -> None:
        self._samples = store.timings.setdefault(project, {})

    def load(self) -> dict[str, str]:
        return dict(self._samples)

    def save(self, samples: Mapping[str, str]) -> None:
        self._samples.update(samples)
