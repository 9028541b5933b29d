"""Fakes of the store's ports in memory, timed by a clock that moves only when it is told to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dct_celery.core.model import Chunk
from dct_celery.ports import STALL_MS, Claim, StreamEntry, WorkerInfo


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


@dataclass
class _Run:
    owner: str
    spec: str
    reaped: int
    state: str = "open"
    manifest: str | None = None
    fence: int = 0
    refused: int = 0
    slips: dict[str, _Slip] = field(default_factory=dict)
    events: list[StreamEntry] = field(default_factory=list)
    acks: dict[str, int] = field(default_factory=dict)


@dataclass
class MemoryStore:
    """What a Redis would hold; hand it to every fake that is to see the same."""

    clock: StoreClock = field(default_factory=StoreClock)
    runs: dict[str, _Run] = field(default_factory=dict)
    #: pool -> name -> (alive until, what it is)
    beating: dict[str, dict[str, tuple[int, Any]]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    timings: dict[str, dict[str, str]] = field(default_factory=dict)


class MemoryLedger:
    """Ledger of one run; see `ports.Ledger`. A second one on the same store and run sees the same."""

    def __init__(self, store: MemoryStore, run: str) -> None:
        self._store = store
        self._name = run

    @property
    def _run(self) -> _Run | None:
        return self._store.runs.get(self._name)

    def open_run(self, owner: str, spec: str, ttl_seconds: int = 60) -> bool:
        if self._run is not None:
            return False
        self._store.runs[self._name] = _Run(owner, spec, self._store.clock.ms)
        return True

    def spec(self) -> str | None:
        return self._run.spec if self._run else None

    def publish_manifest(self, manifest: str) -> None:
        if self._run:
            self._run.manifest = manifest

    def manifest(self) -> str | None:
        return self._run.manifest if self._run else None

    def offer(self, chunk: Chunk) -> None:
        if not (run := self._run):
            return
        known = run.slips.get(chunk.id)
        if known is None or known.chunk.attempt != chunk.attempt:
            run.slips[chunk.id] = _Slip(chunk)

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
        run.fence += 1
        slip.state, slip.fence, slip.worker, slip.slot = "leased", run.fence, worker, slot
        slip.until, slip.lease = self._store.clock.ms + lease_ms, lease_ms
        self._say(run, "claimed", slip)
        return Claim("ok", run.fence, slip.chunk)

    def renew(self, chunk: str, fence: int, lease_ms: int) -> str:
        run, slip = self._held(chunk, fence)
        return self._prolong(run, slip, lease_ms) if run and slip else "lost"

    def append(self, chunk: str, fence: int, attempt: int, seq: int, records: str, lease_ms: int) -> str:
        run, slip = self._held(chunk, fence)
        if run is None or slip is None:
            return "lost"
        self._say(run, "records", slip, seq, records)
        return self._prolong(run, slip, lease_ms)

    def complete(self, chunk: str, fence: int, attempt: int, seq: int, summary: str) -> str:
        return self._end(chunk, fence, "done", "completed", seq, summary)

    def release(self, chunk: str, fence: int, attempt: int, seq: int, reason: str) -> str:
        return self._end(chunk, fence, "released", "released", seq, reason)

    def reap(self) -> list[str]:
        if not (run := self._run):
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
            run.events.append(StreamEntry(self._next_id(run), "host", "", 0, 0, worker, 0, 0, data))

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
            self._run.state = "cancelled"

    def state(self) -> str:
        return self._run.state if self._run else "none"

    def refused(self) -> int:
        return self._run.refused if self._run else 0

    def extend(self, ttl_seconds: int = 60) -> None: ...

    def close(self) -> None:
        if self._run:
            self._run.state = "closed"

    def _held(self, chunk: str, fence: int) -> tuple[_Run | None, _Slip | None]:
        """Run and chunk for its holder; (run, None) for anybody else, which is counted."""
        if (run := self._run) is None:
            return None, None
        slip = run.slips.get(chunk)
        if slip is None or slip.state != "leased" or slip.fence != fence:
            run.refused += 1
            return run, None
        return run, slip

    def _prolong(self, run: _Run, slip: _Slip, lease_ms: int) -> str:
        slip.until = self._store.clock.ms + lease_ms
        return "ok" if run.state == "open" else "cancelled"

    def _end(self, chunk: str, fence: int, state: str, kind: str, seq: int, data: str) -> str:
        run, slip = self._held(chunk, fence)
        if run is None or slip is None:
            return "lost"
        slip.state = state
        self._say(run, kind, slip, seq, data)
        return "ok"

    def _say(self, run: _Run, kind: str, slip: _Slip, seq: int = 0, data: str = "") -> None:
        lease = (slip.chunk.id, slip.chunk.attempt, slip.fence, slip.worker, slip.slot)
        run.events.append(StreamEntry(self._next_id(run), kind, *lease, seq, json.loads(data) if data else None))

    def _next_id(self, run: _Run) -> str:
        return f"{len(run.events) + 1}-0"


class MemoryRegistry:
    """Workers and runs of one pool; see `ports.Registry`."""

    def __init__(self, store: MemoryStore, pool: str) -> None:
        self._clock = store.clock
        self._runs = store.beating.setdefault(f"{pool}:runs", {})
        self._workers = store.beating.setdefault(f"{pool}:workers", {})

    def announce(self, run: str, horizon_seconds: float) -> None:
        self._runs[run] = self._clock.ms + int(horizon_seconds * 1000), None

    def withdraw(self, run: str) -> None:
        self._runs.pop(run, None)

    def active_runs(self) -> list[str]:
        return [name for name, _ in self._alive(self._runs)]

    def beat(self, info: WorkerInfo, horizon_seconds: float) -> None:
        self._workers[info.name] = self._clock.ms + int(horizon_seconds * 1000), info

    def leave(self, name: str) -> None:
        self._workers.pop(name, None)

    def workers(self) -> list[WorkerInfo]:
        return [info for _, info in self._alive(self._workers)]

    def _alive(self, members: dict[str, tuple[int, Any]]) -> list[tuple[str, Any]]:
        alive = sorted((until, name) for name, (until, _) in members.items() if until > self._clock.ms)
        return [(name, members[name][1]) for _, name in alive]


class MemoryBlobs:
    """See `ports.BlobStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._blobs = store.blobs

    def missing(self, digests: Sequence[str]) -> set[str]:
        return set(digests) - self._blobs.keys()

    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        self._blobs.update(blobs)

    def get(self, digests: Sequence[str]) -> dict[str, bytes]:
        return {digest: self._blobs[digest] for digest in digests if digest in self._blobs}


class MemoryTimings:
    """See `ports.TimingStore`."""

    def __init__(self, store: MemoryStore, project: str) -> None:
        self._samples = store.timings.setdefault(project, {})

    def load(self) -> dict[str, str]:
        return dict(self._samples)

    def save(self, samples: Mapping[str, str]) -> None:
        self._samples.update(samples)
