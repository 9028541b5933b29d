"""The ledger port on Redis: one typed method per Lua verb.

The store's answers are parsed here and nowhere else.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.redisstore.client import script, text, translating
from dct_celery.core.model import Chunk
from dct_celery.core.run.events import ChunkCompleted, ChunkEnd
from dct_celery.core.run.leases import LeaseRef
from dct_celery.errors import StoreUnavailable, Superseded, Untrusted
from dct_celery.ports import (
    ABANDONED_MS,
    AVOID_MS,
    DISPATCHER_LEASE_MS,
    STALL_MS,
    RunContents,
    Survey,
)
from dct_celery.protocol import stream
from dct_celery.protocol.door import Door
from dct_celery.protocol.leases import (
    AdoptAnswer,
    Adoption,
    Claim,
    ClaimAnswer,
    OutstandingChunk,
    WriteAnswer,
)
from dct_celery.protocol.runs import CancelOrder, ManifestSummary, Ownership, RunSpec, RunState
from dct_celery.protocol.stream import Page, StreamEntry
from dct_celery.protocol.workers import WorkerReport
from dct_celery.security.signing import signed_by

if TYPE_CHECKING:
    from dct_celery.protocol.summary import RunSummary

S = TypeVar("S", bound=StrEnum)
T = TypeVar("T")
_VERBS = (
    "open_run", "commit", "claim", "renew", "append", "complete", "release", "reap", "cancel",
    "report", "adopt", "reopen",
    "abandon", "set_field",
)  # fmt: skip
#: Gap between the fences of two epochs.
_FENCES = 1_000_000
#: Most digits of a number from the store.
_MOST_DIGITS = 15


@translating
class RedisLedger:
    """The ledger of one run, whose messages go through `door`.

    Every method raises StoreUnavailable when the store does not answer, refuses, or holds something
    else in place of the run.
    """

    def __init__(self, client: redis.Redis, run: str, door: Door) -> None:
        self._client = client
        self._run = run
        self._door = door
        self._keys = keys.RunKeys(run)
        self._verbs: dict[str, Any] = {name: script(client, name) for name in _VERBS}
        #: The signed ownership of the dispatcher that uses this ledger; empty for a slot.
        self._owner = ""
        #: The run's spec, as this dispatcher stored it.
        self._epoch = 1
        #: Offers of this dispatcher that it has not read back yet: (epoch, signed text) -> chunk.
        self._own_offers: dict[tuple[int, str], Chunk] = {}
        #: Orders to cancel that were found to be unsigned, so that each is judged once.
        self._forged: set[str] = set()

    # -- the run -------------------------------------------------------------------------

    def open_run(self, dispatcher: str, spec: RunSpec, ttl_seconds: int = keys.RUN_TTL) -> bool:
        self._own(dispatcher)
        args = [self._owner, self._door.seal(spec), ttl_seconds, self.incarnation(), spec.nonce]
        return bool(self._verbs["open_run"](keys=[self._keys.run], args=args))

    def adopt(self, dispatcher: str, *, dead: bool) -> Adoption:
        self._own(dispatcher)
        reply = _row(
            self._verbs["adopt"](
                keys=[self._keys.run], args=[self._owner, DISPATCHER_LEASE_MS, int(dead)]
            ),
            3,
        )
        answer = _answer(AdoptAnswer, reply[0])
        if answer is AdoptAnswer.OK:
            self._epoch = max(_whole(reply[1]), 1)
            return Adoption(answer, self._epoch, text(reply[2]))
        return Adoption(answer, wait_ms=_whole(reply[1]) if answer is AdoptAnswer.HELD else 0)

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
        fields: dict[str, str | int] = {
            "state": RunState.OPEN if run.cancelled is None else RunState.CANCELLED,
            "reason": "" if run.cancelled is None else self._door.seal(CancelOrder(run.cancelled)),
            "spec": self._door.seal(run.spec),
            "nonce": run.spec.nonce,
            "fence": epoch * _FENCES,
            "refused": self.refused(),
        }
        if run.manifest is not None:
            fields["manifest"] = self._door.seal(run.manifest)
        head = [
            self._owner,
            epoch,
            self.incarnation(),
            keys.RUN_TTL,
            json.dumps(fields),
            json.dumps(dict(acknowledged)),
        ]
        names = [self._keys.run, self._keys.leases, self._keys.events, self._keys.acks]
        chunks = [self._keys.chunk(one.chunk.id) for one in outstanding]
        rows = [field for one in outstanding for field in self._row(one, epoch)]

        def put_back() -> bool:
            return bool(self._verbs["reopen"](keys=[*names, *chunks], args=[*head, *rows]))

        return put_back() or (not self._superseded() and put_back())

    def _row(self, one: OutstandingChunk, epoch: int) -> list[Any]:
        """The arguments of `reopen.lua` for one chunk."""
        lease = one.lease
        state = "queued" if lease is None else "leased"
        holder = json.dumps(["", 0] if lease is None else [lease.worker, lease.slot])
        payload = self._offer(one.chunk, epoch)
        return [
            one.chunk.id,
            payload,
            one.chunk.attempt,
            state,
            lease.fence if lease else 0,
            holder,
            one.lease_ms,
        ]

    def restore(self, entries: Iterable[StreamEntry]) -> None:
        for batch in _batched(entries, 500):
            pipe = self._client.pipeline(transaction=False)
            for entry in batch:
                pipe.xadd(self._keys.events, dict[Any, Any](entry.fields))
            pipe.execute()
        self._client.expire(self._keys.events, keys.RUN_TTL)

    def epoch(self) -> int:
        return _whole(self._field("epoch"))

    def silence(self) -> float:
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.hget(self._keys.run, "reaped")
        (seconds, micros), reaped = pipe.execute()
        return float(max(seconds + micros / 1e6 - _whole(reaped) / 1000, 0.0)) if reaped else 0.0

    def incarnation(self) -> str:
        try:
            facts: Any = self._client.info("server")
        except redis.exceptions.NoPermissionError:
            return ""
        return _incarnation(facts)

    def abandon(self) -> bool:
        if not self._verbs["abandon"](keys=[self._keys.run], args=[ABANDONED_MS]):
            return False
        self._expire_all(keys.ABANDONED_TTL)
        return True

    def spec(self) -> RunSpec | None:
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.hget(self._keys.run, "spec")
        (seconds, _), sealed = pipe.execute()
        if sealed is None:
            return None
        spec = self._door.unseal(RunSpec, text(sealed))
        if spec.run != self._run:
            raise Untrusted("is another run's")
        if spec.expires_ms < seconds * 1000:
            raise Untrusted("has expired: a run lasts for a day at most")
        return spec

    def publish_manifest(self, manifest: ManifestSummary) -> None:
        self._set("manifest", self._door.seal(manifest))

    def manifest(self) -> ManifestSummary | None:
        sealed = self._field("manifest")
        return None if sealed is None else self._door.unseal(ManifestSummary, sealed)

    def publish_summary(self, summary: RunSummary) -> None:
        self._set("summary", self._door.seal(summary))

    def summary(self) -> RunSummary | None:
        # Brings the whole view of a run, which workers have no use for.
        from dct_celery.protocol.summary import RunSummary

        sealed = self._field("summary")
        return None if sealed is None else self._door.unseal(RunSummary, sealed)

    def publish_head(self, head: bytes) -> None:
        self._client.set(self._keys.head, head, ex=keys.RUN_TTL)

    def head(self) -> bytes | None:
        value: Any = self._client.get(self._keys.head)
        return value if isinstance(value, bytes) else None

    # -- leases --------------------------------------------------------------------------

    def commit(
        self,
        offers: Sequence[Chunk] = (),
        acknowledged: Mapping[str, int] | None = None,
        *,
        exhausted: bool = False,
    ) -> None:
        names = [
            self._keys.run,
            self._keys.acks,
            self._keys.events,
            *(self._keys.chunk(chunk.id) for chunk in offers),
        ]
        positions = (acknowledged or {}).items()
        rows = [
            (chunk.id, chunk.attempt, self._offer(chunk, self._epoch), chunk.avoid_worker)
            for chunk in offers
        ]
        pairs = itertools.chain.from_iterable((*positions, *rows))
        args = [AVOID_MS, len(positions), int(exhausted), *pairs]
        self._mine("commit", names, args)

    def ending(self) -> bool:
        exhausted, queued = self._client.hmget(self._keys.run, ["exhausted", "queued"])
        return exhausted == b"1" and _whole(queued) <= 0

    def _offer(self, chunk: Chunk, epoch: int) -> str:
        """The signed text of an offer.

        It is remembered: when the stream returns it, it need not be verified or parsed again.
        """
        sealed = stream.offer(self._door, chunk, epoch)
        self._own_offers[epoch, sealed] = chunk
        return sealed

    def claim(self, chunk: str, attempt: int, *, worker: str, slot: int, lease_ms: int) -> Claim:
        # The client repeats a command whose answer is lost; the token shows that it is
        # the same claim.
        token = secrets.token_hex(8)
        reply = _row(
            self._verbs["claim"](
                keys=self._all(chunk), args=[chunk, attempt, lease_ms, worker, slot, token]
            ),
            4,
        )
        answer = _answer(ClaimAnswer, reply[0])
        if answer is not ClaimAnswer.OK:
            return Claim(answer)
        lease = LeaseRef(chunk, attempt, _whole(reply[1]), worker, slot, _whole(reply[3]))
        try:
            offered = stream.unseal_offer(self._door, text(reply[2]), lease.epoch)
        except Untrusted:
            return Claim(ClaimAnswer.UNTRUSTED, lease)
        # Another chunk of the run in place of this one would run tests whose records are not
        # expected.
        fits = offered.id == chunk and offered.attempt == attempt
        return Claim(answer, lease, offered) if fits else Claim(ClaimAnswer.UNTRUSTED, lease)

    def renew(self, lease: LeaseRef, lease_ms: int) -> WriteAnswer:
        return self._written(
            "renew", self._all(lease.chunk)[:3], [lease.chunk, lease.fence, lease_ms]
        )

    def append(self, lease: LeaseRef, seq: int, records: str, lease_ms: int) -> WriteAnswer:
        sealed = stream.records(self._door, lease, seq, records)
        args = [lease.chunk, lease.fence, lease.attempt, seq, sealed, lease_ms, lease.epoch]
        return self._written("append", self._all(lease.chunk), args)

    def end(self, lease: LeaseRef, seq: int, end: ChunkEnd) -> WriteAnswer:
        verb = "complete" if isinstance(end, ChunkCompleted) else "release"
        sealed = stream.chunk_end(self._door, lease, seq, end)
        return self._written(
            verb,
            self._all(lease.chunk),
            [lease.chunk, lease.fence, lease.attempt, seq, sealed, lease.epoch],
        )

    def _written(self, verb: str, names: Sequence[str], args: Sequence[Any]) -> WriteAnswer:
        answer = _answer(WriteAnswer, self._verbs[verb](keys=names, args=args))
        if answer is WriteAnswer.CANCELLED and self.state() is RunState.TAMPERED:
            return WriteAnswer.OK
        return answer

    def reap(self) -> list[str]:
        return self._reap()[0]

    def poll(self) -> RunState:
        _, state, order = self._reap()
        return self._judge_state(state, order)

    def _reap(self) -> tuple[list[str], str | None, str | None]:
        """The chunks whose leases ran out, the state of the run and the order to cancel it."""
        names = [self._keys.run, self._keys.leases, self._keys.events]
        reply = self._mine("reap", names, [self._keys.chunk_prefix, STALL_MS])
        expired, state, order = _row(reply, 3)[:3]
        chunks = [text(chunk) for chunk in expired] if isinstance(expired, list) else []
        return chunks, _maybe(state), _maybe(order)

    def survey(
        self, spec: RunSpec, manifest: ManifestSummary | None, chunks: Sequence[str]
    ) -> Survey:
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(self._keys.run, ["epoch", "spec", "manifest"])
        pipe.info("server")
        for chunk in chunks:
            pipe.hmget(self._keys.chunk(chunk), ["state", "fence"])
        (epoch, *sealed), facts, *rows = self._replies(pipe)
        expected = [self._door.seal(spec), None if manifest is None else self._door.seal(manifest)]
        return Survey(
            epoch=_whole(epoch),
            incarnation=_incarnation(facts),
            intact=[_maybe(one) for one in sealed] == expected,
            fences={chunk: _fence(*row) for chunk, row in zip(chunks, rows, strict=True)},
        )

    def _replies(self, pipe: Any) -> list[Any]:
        """All replies. Only one that the user of the store has no right to may be an error."""
        replies: list[Any] = pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(
                reply, redis.exceptions.NoPermissionError
            ):
                raise reply
        return replies

    def _mine(self, verb: str, names: Sequence[str], args: Sequence[Any]) -> Any:
        """Calls a verb that only the run's dispatcher may use."""
        reply = self._verbs[verb](keys=names, args=[self._owner, *args])
        if text(reply) == "superseded":
            if self._superseded():
                raise Superseded(
                    f"run {self._run} was adopted by another dispatcher (dct attach); "
                    "this one leaves it alone"
                )
            reply = self._verbs[verb](keys=names, args=[self._owner, *args])
        return reply

    def _own(self, dispatcher: str) -> None:
        self._owner = self._door.seal(Ownership(dispatcher))

    def _superseded(self) -> bool:
        """Whether another dispatcher owns the run.

        An owner that is not signed with the key is replaced by this dispatcher.
        """
        owner = self._field("owner")
        if owner == self._owner:
            return False
        if owner is not None:
            try:
                self._door.unseal(Ownership, owner)
            except Untrusted:
                self._client.hset(self._keys.run, "owner", self._owner)
                return False
        return owner is not None

    # -- the stream ----------------------------------------------------------------------

    def report(self, worker: str, report: WorkerReport) -> None:
        args = [worker, stream.report(self._door, worker, report)]
        self._verbs["report"](keys=[self._keys.run, self._keys.events], args=args)

    def read(self, after: str, *, block_ms: int, count: int = 500) -> Page:
        reply: Any = self._client.xread(
            {self._keys.events: after}, count=count, block=block_ms or None
        )
        rows = [(text(id_), _fields(fields)) for _, part in reply or () for id_, fields in part]
        return stream.read_page(self._door, rows, self._own_offers)

    def acknowledged(self, keys_: Sequence[str]) -> list[int]:
        if not keys_:
            return []
        values: Any = self._client.hmget(self._keys.acks, list(keys_))
        return [_whole(value) for value in values]

    # -- its end -------------------------------------------------------------------------

    def cancel(self, reason: str) -> None:
        self._verbs["cancel"](
            keys=[self._keys.run], args=[self._door.seal(CancelOrder(reason[:10_000]))]
        )

    def state(self) -> RunState:
        return self._judge_state(*self._two("state", "reason"))

    def _judge_state(self, state: str | None, order: str | None) -> RunState:
        if state is None:
            return RunState.NONE
        if state == RunState.CANCELLED and not self._ordered(order or ""):
            return RunState.TAMPERED
        return RunState(state) if state in _STATES else RunState.TAMPERED

    def _ordered(self, order: str) -> bool:
        if order in self._forged:
            return False
        try:
            self._door.unseal(CancelOrder, order)
        except Untrusted:
            self._forged = {order}
            return False
        return True

    def reason(self) -> str:
        try:
            return self._door.unseal(CancelOrder, self._field("reason") or "").reason
        except Untrusted:
            return ""

    def refused(self) -> int:
        return _whole(self._field("refused"))

    def extend(self, ttl_seconds: int = keys.RUN_TTL) -> None:
        self._expire(ttl_seconds)

    def close(self) -> None:
        self._set("state", RunState.CLOSED.value)
        self._expire_all(keys.CLOSED_TTL)

    def _expire_all(self, seconds: int) -> None:
        self._expire(seconds)
        chunks = self._client.scan_iter(match=f"{_escape(self._keys.chunk_prefix)}*", count=1000)
        for batch in _batched(chunks, 1000):
            pipe = self._client.pipeline(transaction=False)
            for name in batch:
                pipe.expire(name, seconds)
            pipe.execute()

    def _expire(self, seconds: int) -> None:
        pipe = self._client.pipeline(transaction=False)
        for name in (
            self._keys.run,
            self._keys.leases,
            self._keys.events,
            self._keys.acks,
            self._keys.head,
        ):
            pipe.expire(name, seconds)
        pipe.execute()

    def _all(self, chunk: str) -> list[str]:
        return [self._keys.run, self._keys.chunk(chunk), self._keys.leases, self._keys.events]

    def _field(self, name: str) -> str | None:
        return _maybe(self._client.hget(self._keys.run, name))

    def _set(self, name: str, value: str) -> None:
        self._verbs["set_field"](keys=[self._keys.run], args=[name, value])

    def _two(self, *names: str) -> tuple[str | None, ...]:
        values: Any = self._client.hmget(self._keys.run, list(names))
        return tuple(map(_maybe, values))


_STATES = frozenset({RunState.OPEN.value, RunState.CANCELLED.value, RunState.CLOSED.value})


def stored_run(client: redis.Redis, run: str) -> tuple[str, str]:
    """(nonce, id of the signing key) that the store has for the run; empty for an unknown run.

    They prove nothing by themselves, only through the signatures that match them.
    """
    try:
        values: Any = client.hmget(keys.RunKeys(run).run, ["nonce", "spec"])
    except redis.ResponseError:
        return "", ""
    return text(values[0]), signed_by(text(values[1]))


def _answer(cls: type[S], reply: Any) -> S:
    """The answer as a member of the enum. Raises StoreUnavailable if it is none."""
    try:
        return cls(text(reply))
    except ValueError:
        raise StoreUnavailable(
            "the store returned an unknown answer; does something else use its keys?"
        ) from None


def _row(reply: Any, length: int) -> list[Any]:
    """A script's list, padded with None; a single answer becomes a list of one."""
    row = reply if isinstance(reply, list) else [reply]
    return [*row, *[None] * (length - len(row))]


def _maybe(value: Any) -> str | None:
    return None if value is None else text(value)


def _incarnation(facts: Any) -> str:
    """Of the answer to INFO; empty where it was refused."""
    return str(facts.get("run_id", "")) if isinstance(facts, Mapping) else ""


def _fence(state: Any, fence: Any) -> int | None:
    """0 for a chunk on offer, None for one that is neither on offer nor leased."""
    match text(state):
        case "queued":
            return 0
        case "leased":
            return _whole(fence)
        case _:
            return None


def _whole(value: Any) -> int:
    """A number from the store; 0 for anything else, which can only delay the run."""
    if isinstance(value, int):
        return value
    found = text(value)
    return int(found) if found.isascii() and found.isdecimal() and len(found) <= _MOST_DIGITS else 0


def _escape(pattern: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in pattern)


def _fields(fields: Mapping[Any, Any]) -> dict[str, str]:
    return {text(name): text(value) for name, value in fields.items()}


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch
