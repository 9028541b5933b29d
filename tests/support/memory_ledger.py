"""Fakes of the store's ports in memory, timed by a clock that moves only when a test moves it.

What a Redis would hold is held as it would be there, sealed texts included, so that tests can
tamper with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from dct_celery.core.ids import digest_of
from dct_celery.core.model import Chunk
from dct_celery.core.run.events import ChunkCompleted, ChunkEnd
from dct_celery.core.run.leases import LeaseRef
from dct_celery.errors import Superseded, Untrusted
from dct_celery.ports import (
    ABANDONED_MS,
    AVOID_MS,
    DISPATCHER_LEASE_MS,
    STALL_MS,
    Announced,
    RunContents,
    Survey,
    WorkerInfo,
)
from dct_celery.protocol import stream
from dct_celery.protocol.door import Door, Rejects
from dct_celery.protocol.leases import (
    AdoptAnswer,
    Adoption,
    Claim,
    ClaimAnswer,
    OutstandingChunk,
    WriteAnswer,
)
from dct_celery.protocol.runs import (
    Announcement,
    CancelOrder,
    ManifestSummary,
    Ownership,
    RunSpec,
    RunState,
)
from dct_celery.protocol.stream import Page, StreamEntry
from dct_celery.protocol.summary import RunSummary
from dct_celery.protocol.workers import WorkerReport
from dct_celery.security.signing import signed_by

T = TypeVar("T", Announced, WorkerInfo)
#: Milliseconds for which an entry of the registry is good beyond its life, and characters of one
#: that are read.
GRACE_MS, _LONGEST = 180_000, 64 * 1024


@dataclass
class StoreClock:
    """Milliseconds of the store's own clock."""

    ms: int = 1_000_000


@dataclass
class Slip:
    """What the store knows of one chunk."""

    payload: str
    attempt: int
    avoid_worker: str = ""
    state: str = "queued"
    fence: int = 0
    worker: str = ""
    slot: int = 0
    until: int = 0
    lease: int = 0
    offered: int = 0


@dataclass
class StoredFields:
    """What the store knows of one run."""

    owner: str
    spec: str
    reaped: int
    epoch: int = 1
    incarnation: str = ""
    state: str = "open"
    reason: str = ""
    manifest: str | None = None
    summary: str | None = None
    head: bytes | None = None
    fence: int = 0
    refused: int = 0
    exhausted: bool = False
    slips: dict[str, Slip] = field(default_factory=dict)
    #: (id, fields) of each entry of the stream.
    events: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    acks: dict[str, int] = field(default_factory=dict)

    def say(self, kind: str, **fields: str | int) -> None:
        """Adds an entry to the stream."""
        self.add(
            {
                "k": kind,
                "e": str(self.epoch),
                **{name: str(value) for name, value in fields.items()},
            }
        )

    def add(self, fields: Mapping[str, str]) -> None:
        last = int(self.events[-1][0].partition("-")[0]) if self.events else 0
        self.events.append((f"{last + 1}-0", dict(fields)))


@dataclass
class Life:
    """Of a worker or a run: alive until, for how long it asked (both ms), and what it says of
    itself.
    """

    until: int
    horizon: int
    says: str


@dataclass
class MemoryStore:
    """What a Redis would hold; hand it to every fake that is to see the same."""

    clock: StoreClock = field(default_factory=StoreClock)
    #: Changes when the store is started again.
    incarnation: str = "first"
    runs: dict[str, StoredFields] = field(default_factory=dict)
    #: pool -> name -> its life
    beating: dict[str, dict[str, Life]] = field(default_factory=dict)
    #: id of a dict in `beating` -> when it was last tended
    tended: dict[int, int] = field(default_factory=dict)
    #: pool -> when the next worker may ask for the open runs
    turns: dict[str, int] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    #: run -> blobs of its own
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    #: tree -> digests that workers ask its dispatcher for
    wanted: dict[str, set[str]] = field(default_factory=dict)
    timings: dict[str, dict[str, str]] = field(default_factory=dict)


class MemoryLedger:
    """Ledger of one run; see `ports.Ledger`. Several on one store and run see the same."""

    def __init__(self, store: MemoryStore, run: str, door: Door) -> None:
        self._store = store
        self._name = run
        self._door = door
        self._owner = ""
        self._epoch = 1

    @property
    def _run(self) -> StoredFields | None:
        return self._store.runs.get(self._name)

    def _own(self, dispatcher: str) -> None:
        self._owner = self._door.seal(Ownership(dispatcher))

    def open_run(self, dispatcher: str, spec: RunSpec, ttl_seconds: int = 60) -> bool:
        self._own(dispatcher)
        if self._run is not None:
            return self._run.owner == self._owner
        sealed, now = self._door.seal(spec), self._store.clock.ms
        self._store.runs[self._name] = StoredFields(
            self._owner, sealed, now, incarnation=self._store.incarnation
        )
        return True

    def adopt(self, dispatcher: str, *, dead: bool) -> Adoption:
        self._own(dispatcher)
        if (run := self._run) is None:
            return Adoption(AdoptAnswer.NONE)
        if run.state == "closed":
            return Adoption(AdoptAnswer.CLOSED)
        left = run.reaped + DISPATCHER_LEASE_MS - self._store.clock.ms
        if not dead and run.owner != self._owner and left > 0:
            return Adoption(AdoptAnswer.HELD, wait_ms=min(left, DISPATCHER_LEASE_MS))
        run.owner, run.reaped = self._owner, self._store.clock.ms
        self._epoch = max(run.epoch, 1)
        return Adoption(AdoptAnswer.OK, self._epoch, run.incarnation)

    def reopen(
        self,
        dispatcher: str,
        epoch: int,
        run: RunContents,
        outstanding: Sequence[OutstandingChunk],
        acknowledged: Mapping[str, int],
    ) -> bool:
        self._own(dispatcher)
        self._epoch = epoch
        if self._run is not None and self._run.owner != self._owner and self._superseded():
            return False
        before = self._run
        if before is not None and before.epoch == epoch:
            return True
        now = self._store.clock.ms
        new = StoredFields(
            self._owner, self._door.seal(run.spec), now, epoch, self._store.incarnation
        )
        if run.cancelled is not None:
            new.state, new.reason = "cancelled", self._door.seal(CancelOrder(run.cancelled))
        new.manifest = None if run.manifest is None else self._door.seal(run.manifest)
        new.acks, new.fence = dict(acknowledged), epoch * 1_000_000
        new.head, new.refused = (before.head, before.refused) if before is not None else (None, 0)
        for one in outstanding:
            name, attempt, lease = one.chunk.id, one.chunk.attempt, one.lease
            slip = new.slips[name] = Slip(stream.offer(self._door, one.chunk, epoch), attempt)
            new.say("offered", c=name, a=attempt, d=slip.payload)
            if lease is not None:
                slip.state, slip.fence, slip.worker, slip.slot = (
                    "leased",
                    lease.fence,
                    lease.worker,
                    lease.slot,
                )
                slip.until, slip.lease = now + one.lease_ms, one.lease_ms
                self._say(new, "claimed", name, slip, d=one.lease_ms)
        self._store.runs[self._name] = new
        return True

    def restore(self, entries: Iterable[StreamEntry]) -> None:
        if run := self._run:
            for entry in entries:
                run.add(entry.fields)

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

    def spec(self) -> RunSpec | None:
        if self._run is None:
            return None
        spec = self._door.unseal(RunSpec, self._run.spec)
        if spec.run != self._name:
            raise Untrusted("is another run's")
        if spec.expires_ms < self._store.clock.ms:
            raise Untrusted("has expired: a run lasts for a day at most")
        return spec

    def publish_manifest(self, manifest: ManifestSummary) -> None:
        if self._run:
            self._run.manifest = self._door.seal(manifest)

    def manifest(self) -> ManifestSummary | None:
        if self._run is None or self._run.manifest is None:
            return None
        return self._door.unseal(ManifestSummary, self._run.manifest)

    def publish_summary(self, summary: RunSummary) -> None:
        if self._run:
            self._run.summary = self._door.seal(summary)

    def summary(self) -> RunSummary | None:
        if self._run is None or self._run.summary is None:
            return None
        return self._door.unseal(RunSummary, self._run.summary)

    def publish_head(self, head: bytes) -> None:
        if self._run:
            self._run.head = head

    def head(self) -> bytes | None:
        return self._run.head if self._run else None

    def commit(
        self,
        offers: Sequence[Chunk] = (),
        acknowledged: Mapping[str, int] | None = None,
        *,
        exhausted: bool = False,
    ) -> None:
        if not (run := self._mine()):
            return
        run.exhausted = exhausted
        run.acks.update(acknowledged or {})
        for chunk in offers:
            known = run.slips.get(chunk.id)
            if known is None or known.attempt != chunk.attempt:
                payload = stream.offer(self._door, chunk, self._epoch)
                run.slips[chunk.id] = Slip(
                    payload, chunk.attempt, chunk.avoid_worker, offered=self._store.clock.ms
                )
                run.say("offered", c=chunk.id, a=chunk.attempt, d=payload)

    def ending(self) -> bool:
        run = self._run
        if run is None or not run.exhausted:
            return False
        return all(slip.state != "queued" for slip in run.slips.values())

    def claim(self, chunk: str, attempt: int, *, worker: str, slot: int, lease_ms: int) -> Claim:
        run = self._run
        if run is None:
            return Claim(ClaimAnswer.NO_RUN)
        if run.state != "open":
            return Claim(ClaimAnswer.CANCELLED)
        slip = run.slips.get(chunk)
        if slip is None:
            return Claim(ClaimAnswer.UNKNOWN)
        if slip.attempt != attempt:
            return Claim(ClaimAnswer.STALE)
        if slip.state != "queued":
            return Claim(ClaimAnswer.HELD if slip.state == "leased" else ClaimAnswer.DONE)
        if slip.avoid_worker == worker and self._store.clock.ms < slip.offered + AVOID_MS:
            run.say("avoided", c=chunk, a=attempt, f=0, w=worker, s=slot)
            return Claim(ClaimAnswer.AVOID)
        run.fence += 1
        slip.state, slip.fence, slip.worker, slip.slot = "leased", run.fence, worker, slot
        slip.until, slip.lease = self._store.clock.ms + lease_ms, lease_ms
        self._say(run, "claimed", chunk, slip, d=lease_ms)
        lease = LeaseRef(chunk, attempt, slip.fence, worker, slot, run.epoch)
        try:
            offered = stream.unseal_offer(self._door, slip.payload, run.epoch)
        except Untrusted:
            return Claim(ClaimAnswer.UNTRUSTED, lease)
        fits = (offered.id, offered.attempt) == (chunk, attempt)
        return (
            Claim(ClaimAnswer.OK, lease, offered) if fits else Claim(ClaimAnswer.UNTRUSTED, lease)
        )

    def renew(self, lease: LeaseRef, lease_ms: int) -> WriteAnswer:
        run = self._run
        slip = self._slip(run, lease) if run else None
        return (
            self._prolong(run, slip, lease_ms)
            if run and slip
            else self._refusal(run, lease, moves=False)
        )

    def append(self, lease: LeaseRef, seq: int, records: str, lease_ms: int) -> WriteAnswer:
        run, slip = self._writable(lease)
        if run is None or slip is None:
            return self._refusal(run, lease)
        self._say(
            run,
            "records",
            lease.chunk,
            slip,
            q=seq,
            d=stream.records(self._door, lease, seq, records),
        )
        return self._prolong(run, slip, lease_ms)

    def end(self, lease: LeaseRef, seq: int, end: ChunkEnd) -> WriteAnswer:
        run, slip = self._writable(lease)
        if run is None or slip is None:
            return self._refusal(run, lease)
        slip.state, kind = (
            ("done", "completed") if isinstance(end, ChunkCompleted) else ("released", "released")
        )
        self._say(
            run, kind, lease.chunk, slip, q=seq, d=stream.chunk_end(self._door, lease, seq, end)
        )
        return WriteAnswer.OK

    def reap(self) -> list[str]:
        if not (run := self._mine()):
            return []
        now = self._store.clock.ms
        gap, run.reaped = now - run.reaped, now
        leased = {name: slip for name, slip in run.slips.items() if slip.state == "leased"}
        if gap > STALL_MS or gap < 0:
            for slip in leased.values():
                slip.until = min(slip.until + max(gap, 0), now + slip.lease)
        late = {name: slip for name, slip in leased.items() if slip.until <= now}
        for name, slip in late.items():
            slip.state = "expired"
            self._say(run, "expired", name, slip)
        return list(late)

    def poll(self) -> RunState:
        self.reap()
        return self.state()

    def survey(
        self, spec: RunSpec, manifest: ManifestSummary | None, chunks: Sequence[str]
    ) -> Survey:
        run = self._run
        slips = run.slips if run else {}
        fences = {
            chunk: {"queued": 0, "leased": slips[chunk].fence}.get(slips[chunk].state)
            if chunk in slips
            else None
            for chunk in chunks
        }
        expected = (self._door.seal(spec), None if manifest is None else self._door.seal(manifest))
        return Survey(
            epoch=self.epoch(),
            incarnation=self.incarnation(),
            intact=run is not None and (run.spec, run.manifest) == expected,
            fences=fences,
        )

    def report(self, worker: str, report: WorkerReport) -> None:
        if run := self._run:
            run.say("report", w=worker, d=stream.report(self._door, worker, report))

    def read(self, after: str, *, block_ms: int, count: int = 500) -> Page:
        events = self._run.events if self._run else []
        position = int(after.partition("-")[0])
        rows = [row for row in events if int(row[0].partition("-")[0]) > position]
        return stream.read_page(self._door, rows[:count])

    def acknowledged(self, keys: Sequence[str]) -> list[int]:
        acks = self._run.acks if self._run else {}
        return [acks.get(key, 0) for key in keys]

    def cancel(self, reason: str) -> None:
        if self._run and self._run.state == "open":
            self._run.state, self._run.reason = "cancelled", self._door.seal(CancelOrder(reason))

    def state(self) -> RunState:
        if (run := self._run) is None:
            return RunState.NONE
        if run.state == "cancelled" and self._order() is None:
            return RunState.TAMPERED
        return (
            RunState(run.state)
            if run.state in ("open", "cancelled", "closed")
            else RunState.TAMPERED
        )

    def reason(self) -> str:
        order = self._order()
        return order.reason if order is not None else ""

    def _order(self) -> CancelOrder | None:
        try:
            return self._door.unseal(CancelOrder, self._run.reason if self._run else "")
        except Untrusted:
            return None

    def refused(self) -> int:
        return self._run.refused if self._run else 0

    def extend(self, ttl_seconds: int = 60) -> None: ...

    def close(self) -> None:
        if self._run:
            self._run.state = "closed"

    def _mine(self) -> StoredFields | None:
        if self._run and self._run.owner != self._owner and self._superseded():
            raise Superseded(f"run {self._name} was adopted by another dispatcher")
        return self._run

    def _superseded(self) -> bool:
        """A dispatcher that was put there without the key is replaced by this one."""
        run = self._run
        assert run is not None
        try:
            self._door.unseal(Ownership, run.owner)
        except Untrusted:
            run.owner = self._owner
            return False
        return True

    def _slip(self, run: StoredFields, lease: LeaseRef) -> Slip | None:
        """The chunk for its holder; None for any other, which is counted."""
        slip = run.slips.get(lease.chunk)
        if slip is None or slip.state != "leased" or slip.fence != lease.fence:
            run.refused += run.fence >= lease.fence
            return None
        return slip

    def _writable(self, lease: LeaseRef) -> tuple[StoredFields | None, Slip | None]:
        run = self._run
        if run is None or run.epoch != lease.epoch:
            return run, None
        return run, self._slip(run, lease)

    @staticmethod
    def _refusal(run: StoredFields | None, lease: LeaseRef, *, moves: bool = True) -> WriteAnswer:
        if run is None:
            return WriteAnswer.GONE
        if moves and lease.epoch != run.epoch:
            return WriteAnswer.MOVED
        return WriteAnswer.GONE if run.fence < lease.fence else WriteAnswer.LOST

    def _prolong(self, run: StoredFields, slip: Slip, lease_ms: int) -> WriteAnswer:
        slip.until = self._store.clock.ms + lease_ms
        over = run.state != "open" and self.state() is not RunState.TAMPERED
        return WriteAnswer.CANCELLED if over else WriteAnswer.OK

    @staticmethod
    def _say(run: StoredFields, kind: str, chunk: str, slip: Slip, **fields: str | int) -> None:
        run.say(kind, c=chunk, a=slip.attempt, f=slip.fence, w=slip.worker, s=slip.slot, **fields)


class MemoryRegistry:
    """Workers and runs of one pool; see `ports.Registry`."""

    def __init__(self, store: MemoryStore, pool: str, door: Door, *, tends: bool = True) -> None:
        self._store = store
        self._clock = store.clock
        self._door = door
        self._tends = tends
        self._pool = pool
        self._runs = store.beating.setdefault(f"{pool}:runs", {})
        self._workers = store.beating.setdefault(f"{pool}:workers", {})
        self._rejects = Rejects()
        self._complaints: list[str] = []

    def announce(self, run: str, nonce: str, horizon_seconds: float, epoch: int = 1) -> None:
        self._say(
            self._runs,
            run,
            horizon_seconds,
            lambda expires_ms: Announcement(run, nonce, epoch, expires_ms),
        )

    def withdraw(self, run: str) -> None:
        self._runs.pop(run, None)

    def active_runs(self) -> dict[str, Announced]:
        found = {}
        for name, says in self._alive(self._runs):
            one = self._believed(
                "the registry of runs",
                says,
                lambda line: Announced(self._door.unseal(Announcement, line), signed_by(line)),
            )
            if one is not None and self._holds(
                "runs", one.announcement.run == name, one.announcement.expires_ms
            ):
                found[name] = one
        return found

    def open_runs(self, turn_seconds: float) -> list[str]:
        if self._clock.ms < self._store.turns.get(self._pool, 0):
            return []
        self._store.turns[self._pool] = self._clock.ms + int(turn_seconds * 1000)
        return [name for name, run in self._store.runs.items() if run.state != "closed"]

    def beat(self, info: WorkerInfo, horizon_seconds: float) -> None:
        self._say(
            self._workers,
            info.name,
            horizon_seconds,
            lambda expires_ms: replace(info, expires_ms=expires_ms),
        )

    def leave(self, name: str) -> None:
        self._workers.pop(name, None)

    def workers(self) -> list[WorkerInfo]:
        found, foreign = [], []
        for name, says in self._alive(self._workers):
            one = self._believed(
                "the registry of workers", says, lambda line: self._door.unseal(WorkerInfo, line)
            )
            if one is None:
                foreign.append(
                    WorkerInfo(
                        name, "", 0, "", 0, signed_by(says), foreign="is not signed with our key"
                    )
                )
            elif self._holds("workers", one.name == name and not one.foreign, one.expires_ms):
                found.append(one)
        return sorted(found, key=lambda info: info.name) + foreign[:20]

    def complaints(self) -> list[str]:
        lines, self._complaints = self._complaints, []
        return lines

    def _believed(self, where: str, says: str, read: Callable[[str], T]) -> T | None:
        """By the first of its lines that is signed with a key that we know."""
        error = Untrusted("is not signed")
        for line in says.split("\n")[:8]:
            try:
                return read(line)
            except Untrusted as found:
                error = found
        self._complain(where, error)
        return None

    def _holds(self, which: str, same_name: bool, expires_ms: int) -> bool:
        if not same_name:
            self._complain(f"the registry of {which}", Untrusted("is another's"))
        elif expires_ms < self._clock.ms:
            self._complain(f"the registry of {which}", Untrusted("has expired"))
        else:
            return True
        return False

    def _complain(self, where: str, error: Untrusted) -> None:
        if line := self._rejects.note(where, error):
            self._complaints.append(line)

    def _say(
        self,
        members: dict[str, Life],
        name: str,
        horizon_seconds: float,
        make: Callable[[int], object],
    ) -> None:
        self._tend(members)
        horizon = int(horizon_seconds * 1000)
        message = make(self._clock.ms + horizon + GRACE_MS)
        doors = [replace(self._door, keyring=keyring) for keyring in self._door.keyring.each()]
        says = "\n".join(door.seal(message) for door in doors)
        members[name] = Life(self._clock.ms + horizon, horizon, says)

    def _alive(self, members: dict[str, Life]) -> list[tuple[str, str]]:
        self._tend(members)
        alive = sorted(
            (life.until, name) for name, life in members.items() if life.until > self._clock.ms
        )
        return [
            (name, says if len(says := members[name].says) <= _LONGEST else "") for _, name in alive
        ]

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

    def __init__(self, store: MemoryStore, run: str = "") -> None:
        self._blobs = store.files.setdefault(run, {}) if run else store.blobs
        self._wanted = store.wanted

    def missing(self, digests: Sequence[str]) -> set[str]:
        return set(digests) - self._blobs.keys()

    def put(self, blobs: Iterable[tuple[str, bytes]], seconds: int = 0) -> None:
        self._blobs.update(blobs)

    def drop(self, digests: Iterable[str]) -> None:
        for digest in digests:
            self._blobs.pop(digest, None)

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
