"""Fuzzing of every door: a value of the right type, or the one error that the door may raise.

    python -m tests.security.fuzz --examples 100000

The examples are divided among the doors. `test_fuzz.py` runs a few of each with every run of the
tests.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dct_celery.adapters.celeryqueue.inbound import TASK, Unacceptable, admit, envelope
from dct_celery.adapters.redisstore.ledger import RedisLedger
from dct_celery.adapters.redisstore.registry import RedisRegistry
from dct_celery.adapters.source.index import Index
from dct_celery.core import codec
from dct_celery.core.model import Chunk, Failure, FixtureRef, Manifest, Need, Outcome, Verdict
from dct_celery.core.model import Phase as Bin
from dct_celery.core.plan import timing_format, timings
from dct_celery.core.plan.planner import Planner, atoms
from dct_celery.core.plan.timings import Estimates
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.machine import RunMachine
from dct_celery.core.run.records import FixtureRecord
from dct_celery.core.run.view import RunView
from dct_celery.dispatcher.journal import Journal, parse_line
from dct_celery.dispatcher.run_snapshot import RunSnapshot
from dct_celery.errors import (
    DctError,
    InfrastructureError,
    ProtocolError,
    StoreUnavailable,
    Untrusted,
    UsageError,
)
from dct_celery.ports import DatabaseSpec
from dct_celery.protocol import runs, stream, summary, workers
from dct_celery.protocol.door import Door, peek
from dct_celery.protocol.heads import Head, expand
from dct_celery.protocol.stream import Reported
from dct_celery.security.guards import Configured
from dct_celery.security.signing import Keyring
from dct_celery.wire import framing, messages
from dct_celery.worker.folders.work_folder import RunFolder, WorkFolder
from dct_celery.worker.host.ended_runs import EndedRuns
from dct_celery.worker.slot.spool import Spool, send_again, sweep
from tests.support.factories import make_entry, make_spec

RUN, NONCE = "run-fuzz-1", "0123456789abcdef"
POOL = Door.of_pool(Keyring(("k" * 40,)), "pool")
DOOR = POOL.of_run(RUN, NONCE)
LEASE = LeaseRef("c1", 1, 1, "build-a@host", 0)

# -- what comes: arbitrary, and nearly right -----------------------------------------------------


def _seen() -> RunView:
    """A view in which everything is."""
    view = RunView(9, connected=2, refusals={"b": "no"}, first=1.0, last=2.0)
    view.take(ev.Offered(Chunk("c1", (0, 1), Bin.ISOLATED, Need.PRISTINE)), at=1.0)
    view.take(ev.Offered(Chunk("c2", (2,), Bin.ISOLATED, Need.PRISTINE)), at=1.0)
    view.take(ev.Claimed(LEASE), at=2.0)
    view.judge(Verdict(make_entry(0), Outcome.FAILED), 1.0)
    view.take(
        ev.Recorded(
            LEASE, 1, (FixtureRecord(FixtureRef.parse("setUpClass (a.T)"), Outcome.ERROR),)
        ),
        at=2.0,
    )
    return view


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
TEXT = st.text(max_size=200) | st.binary(max_size=200).map(
    lambda raw: raw.decode("utf-8", "backslashreplace")
)
MESSAGES: list[Any] = [
    make_spec(RUN),
    runs.Announcement(RUN, NONCE, 1, 10**12),
    runs.ManifestSummary("ab" * 32, 3, {"python": "3.11"}),
    runs.CancelOrder("because"),
    runs.Ownership("ab" * 8),
    runs.ChunkHint(RUN, "c1", 1),
    workers.WorkerInfo(
        "a@b", "b", 2, "0.1", 4, "ab" * 6, ("ab" * 6,), {RUN: workers.RunStage.READY}
    ),
    workers.MachineEnvironment({"python": "3.11"}, {"ab": "cd"}),
    workers.ReadyReport("host", 1.0, "built", True, {"load": 0.5}),
    workers.RefusedReport("no", "why", True),
    Chunk("c1", (0, 1), Bin.ISOLATED, Need.PRISTINE, limits=((0, 61.0),)),
    ev.ChunkCompleted(1.0, {"a.T": 0.1}, (1,), "aborted"),
    ev.ChunkReleased(
        ev.ReleaseReason.CRASH, "signal 11", "stack", 1, FixtureRef.parse("setUpClass (a.T)")
    ),
    LEASE,
    summary.RunSummary.of(_seen(), epoch=1, after="17-0", now=1.0, mask=str),
]
RECORDS = [
    messages.TestFinished(0, Outcome.PASSED, 0.1),
    messages.TestFinished(
        1, Outcome.FAILED, 0.1, (Failure("failure", "AssertionError", "m", "t"),)
    ),
    messages.FixtureFinished(FixtureRef.parse("tearDownClass (a.T)"), Outcome.ERROR),
]


@st.composite
def mutated(draw: st.DrawFn, plain: Any) -> Any:
    """The plain value with one thing in it replaced, taken away or added."""
    value = json.loads(json.dumps(plain))
    if not isinstance(value, dict) or not value or draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    name = draw(st.sampled_from(sorted(value)))
    match draw(st.integers(0, 3)):
        case 0:
            del value[name]
        case 1:
            value[draw(st.text(max_size=8))] = draw(JSON)
        case 2:
            value[name] = draw(JSON)
        case _:
            value[name] = (
                draw(mutated(value[name])) if isinstance(value[name], dict) else draw(JSON)
            )
    return value


NEARLY = st.sampled_from(MESSAGES).flatmap(
    lambda one: st.tuples(st.just(type(one)), mutated(codec.encode(one)))
)
#: (class, body): a message of that class, nearly; or any JSON.
BODIES = NEARLY | st.tuples(st.sampled_from([type(one) for one in MESSAGES]), JSON)


@st.composite
def damaged(draw: st.DrawFn, whole: str) -> str:
    """The text with a part of it cut out, doubled or replaced."""
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(len(whole), start + 40)))
    return whole[:start] + draw(TEXT | st.just(whole[start:end] * 2)) + whole[end:]


SIGNED = st.sampled_from(MESSAGES).flatmap(lambda one: damaged(DOOR.seal(one)))

# -- the doors ---------------------------------------------------------------------------------


def signed_messages(body: tuple[type[Any], Any]) -> None:
    """A message that was signed with our key, by a program that is not ours."""
    cls, value = body
    text = DOOR.seal_text(cls.__name__, json.dumps(value))
    with contextlib.suppress(Untrusted):
        found = DOOR.unseal(cls, text)
        assert isinstance(found, cls)
        assert codec.decode(cls, json.loads(codec.dumps(found))) == found
        if isinstance(found, summary.RunSummary):
            found.view()


def damaged_messages(text: str) -> None:
    """A signed text that was touched is no message, whatever it says."""
    whole = {DOOR.seal(one) for one in MESSAGES}
    for one in MESSAGES:
        if text in whole:
            return
        try:
            DOOR.unseal(type(one), text)
        except Untrusted:
            continue
        raise AssertionError("it was believed")


_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "k": st.sampled_from([*stream.EntryKind, "host", ""]) | TEXT,
        **{
            name: st.sampled_from(["0", "1", "2", "", "-1", "x", "²", "9" * 30]) for name in "eafsq"
        },
        "c": st.sampled_from(["c1", "c2", ""]) | TEXT,
        "w": st.sampled_from(["build-a@host", ""]) | TEXT,
        "d": SIGNED | TEXT | JSON.map(json.dumps),
    },
)


def _view_of(entries: Iterable[stream.StreamEntry]) -> RunView:
    view = RunView(9)
    for entry in entries:
        summary.take(view, entry)
    assert view.done <= 9
    return view


def stream_entries(fields: dict[str, str]) -> None:
    page = stream.read_page(DOOR, [("1-0", fields)])
    assert len(page.entries) + len(page.rejected) == 1
    machine = _machine()
    for entry in page.entries:
        if not isinstance(entry.fact, Reported):
            machine.handle(entry.fact)
    _view_of(page.entries)
    assert not machine.verdicts


_SIGNED_RECORDS = st.lists(
    st.sampled_from(RECORDS).flatmap(lambda one: mutated({"kind": one.kind, **codec.encode(one)})),
    min_size=1,
    max_size=3,
)


def signed_records(rows: list[Any]) -> None:
    """Records of a test process that a test has taken over.

    Only tests of its chunk get verdicts.
    """
    sealed = stream.records(DOOR, LEASE, len(rows), json.dumps(rows))
    fields = {
        "k": "records",
        "e": "1",
        "c": "c1",
        "a": "1",
        "f": "1",
        "w": "build-a@host",
        "s": "0",
        "q": str(len(rows)),
    }
    page = stream.read_page(DOOR, [("1-0", {**fields, "d": sealed})])
    machine = _machine()
    chunk = next(
        effect.chunk
        for effect in machine.handle(ev.SlotsChanged(1, 1))
        if isinstance(effect, ev.Offer)
    )
    machine.handle(ev.Claimed(dataclasses.replace(LEASE, chunk=chunk.id)))
    for entry in page.entries:
        assert isinstance(entry.fact, ev.Recorded)
        machine.handle(
            dataclasses.replace(entry.fact, lease=dataclasses.replace(LEASE, chunk=chunk.id))
        )
    assert machine.verdicts.keys() <= set(chunk.indices)
    _view_of(page.entries)


def _machine() -> RunMachine:
    manifest = Manifest(tuple(make_entry(index, "a.T") for index in range(3)))
    return RunMachine(manifest, Planner(atoms(manifest, Estimates({}, manifest))))


class _Answers:
    """A Redis client whose scripts all give one answer, and whose keys all hold the same bytes."""

    def __init__(self, answer: Any, held: bytes | None = None) -> None:
        self._answer = answer
        self._held = held
        self._asked: list[Any] = []

    def register_script(self, source: str) -> Callable[..., Any]:
        return lambda **_: self._answer

    def pipeline(self, **_: Any) -> Any:
        self._asked = []
        return self

    def execute(self, **_: Any) -> Any:
        return self._asked

    def info(self, *_: Any) -> Any:
        return self._noted({})

    def time(self) -> tuple[int, int]:
        return self._noted((1, 0))

    def hget(self, *_: Any) -> bytes | None:
        return self._noted(self._held)

    get = hget

    def hmget(self, _: Any, names: Any, *more: Any) -> list[bytes | None]:
        count = len(names) if isinstance(names, list) else 1 + len(more)
        return self._noted([self._held] * count)

    def xread(self, *_: Any, **__: Any) -> Any:
        return [(b"events", [(b"1-0", {b"k": self._held or b"", self._held or b"d": b"x"})])]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: None

    def _noted(self, answer: Any) -> Any:
        self._asked.append(answer)
        return answer


_ANSWERS = st.recursive(
    st.none()
    | st.integers()
    | st.binary(max_size=40)
    | st.sampled_from([b"ok", b"held", b"cancelled", b"moved", b"superseded"]),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=8,
)


def ledger_answers(answers: tuple[Any, bytes | None]) -> None:
    client: Any = _Answers(*answers)
    ledger = RedisLedger(client, RUN, DOOR)
    chunk: Any = next(one for one in MESSAGES if isinstance(one, Chunk))
    calls: list[Callable[[], object]] = [
        lambda: ledger.claim("c1", 1, worker="w", slot=0, lease_ms=1),
        lambda: ledger.renew(LEASE, 1),
        lambda: ledger.append(LEASE, 1, "[]", 1),
        lambda: ledger.end(LEASE, 1, ev.ChunkCompleted()),
        lambda: ledger.commit([chunk]),
        ledger.reap,
        ledger.state,
        ledger.reason,
        ledger.spec,
        ledger.manifest,
        ledger.epoch,
        ledger.silence,
        ledger.poll,
        lambda: ledger.survey(make_spec(RUN), None, ["c1", "c2"]),
        lambda: ledger.acknowledged(["c1.1"]),
        lambda: ledger.adopt("ab" * 8, dead=False),
        lambda: ledger.read("0", block_ms=0),
    ]
    for call in calls:
        with contextlib.suppress(StoreUnavailable, Untrusted, InfrastructureError):
            call()


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")


_ENTRIES = st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60) | SIGNED.map(_bytes)))


def registry_values(rows: list[tuple[bytes, bytes]]) -> None:
    client: Any = _Answers([1000, *(part for row in rows for part in row)])
    registry = RedisRegistry(client, "pool", POOL)
    assert not registry.active_runs()
    assert all(info.foreign for info in registry.workers())
    assert len(registry.complaints()) < 20


def broker_hints(text: str) -> None:
    with contextlib.suppress(Untrusted):
        hint = peek(runs.ChunkHint, text)
        assert "/" not in hint.run + hint.chunk


_TAG = {"delivery_tag": "t", "body_encoding": "base64", "delivery_info": {}}
_LISTED = mutated(
    {
        "headers": {"task": TASK, "id": "x"},
        "properties": _TAG,
        "body": "W10=",
        "content-type": "application/json",
        "content-encoding": "utf-8",
    }
)


def broker_lists(item: Any) -> None:
    """An entry of a Redis list: kombu always gets a message, and a slot gets a text."""
    raw = item if isinstance(item, bytes) else json.dumps(item).encode()
    row = json.loads(envelope(raw, "dct.run.x"))
    assert row["properties"]["delivery_tag"]
    with contextlib.suppress(Unacceptable):
        _, text = admit(
            row["headers"],
            row.get("content-type"),
            row.get("content-encoding"),
            base64.b64decode(row["body"]),
        )
        assert isinstance(text, str)


_PATHS = st.sampled_from(["a", "a/b", "../a", "/a", "a//b", "", "c/d", "."]) | TEXT
_FILES = st.tuples(_PATHS, st.integers(-1, 0o10000), st.integers(-1, 2**40), st.just("ab" * 20))
_LINKS = st.tuples(st.sampled_from(["c", "a", "c/d"]) | TEXT, TEXT)
_INDEX = mutated(
    {"version": 1, "files": [["a/b.py", 0o644, 3, "ab" * 20]], "links": [["c", "a"]]}
) | st.fixed_dictionaries(
    {"version": st.just(1), "files": st.lists(_FILES), "links": st.lists(_LINKS)}
)


def code_indices(row: Any) -> None:
    """A tree that was accepted is written below its folder, and never through a link."""
    with contextlib.suppress(InfrastructureError):
        index = Index.parse(row if isinstance(row, bytes) else json.dumps(row).encode())
        links = {link.path for link in index.links}
        for path in index.paths:
            parts = path.split("/")
            assert path
            assert not path.startswith("/")
            assert not {"", ".", ".."} & set(parts)
            assert not links & {"/".join(parts[:end]) for end in range(1, len(parts))}


def wire_frames(payload: bytes) -> None:
    deframer = framing.Deframer()
    deframer.feed(payload)
    with contextlib.suppress(ProtocolError):
        for one in iter(deframer.next, None):
            messages.decode(one)
    with contextlib.suppress(ProtocolError):
        assert isinstance(messages.decode(payload), messages.Message)


def wire_messages(row: Any) -> None:
    with contextlib.suppress(ProtocolError):
        found = messages.decode(json.dumps(row).encode())
        assert messages.decode(found.encode()) == found


_DATABASE = {
    "alias": "default",
    "vendor": "postgresql",
    "name": "test_x",
    "options": {"sslmode": "off"},
    "aliases": ["a"],
}
_CONFIGURED = codec.encode(
    Configured("default", "postgresql", "shop", "test_shop", True, "h", "5432", True)
)


def loader_rows(row: Any) -> None:
    """A loader's description of the databases: the project can write into its channel."""
    for cls in (DatabaseSpec, Configured):
        with contextlib.suppress(ProtocolError):
            assert isinstance(cls.from_dict(row), cls)


def journal_lines(line: str) -> None:
    with contextlib.suppress(Untrusted):
        parse_line(DOOR, line)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), RUN, "head", DOOR)
        with journal.path.open("ab") as file:
            file.write(line.encode(errors="replace") + b"\n")
        assert not list(journal.replay())
        assert journal.skipped
        journal.close()


def heads(data: bytes) -> None:
    with contextlib.suppress(DctError):
        RunSnapshot.parse(expand(data), DOOR)
    with contextlib.suppress(Untrusted, InfrastructureError):
        Head.read(data, DOOR)
    with contextlib.suppress(Untrusted, UsageError):
        RunSnapshot.parse(data.decode(errors="replace"), DOOR)


class _Deaf:
    """A ledger that has acknowledged nothing, and takes everything."""

    def acknowledged(self, keys: list[str]) -> list[int]:
        return [0] * len(keys)

    def append(self, lease: LeaseRef, seq: int, records: str, lease_ms: int) -> Any:
        assert isinstance(lease, LeaseRef)

    def end(self, lease: LeaseRef, seq: int, end: ev.ChunkEnd) -> None:
        assert isinstance(end, ev.ChunkEnd)


def _spool_text() -> str:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), LEASE)
        for record in RECORDS:
            spool.add(record.encode().decode())
        spool.end(ev.ChunkCompleted(1.0), 1)
        spool.close()
        return next(Path(folder).glob("*.jsonl")).read_text()


_SPOOL = _spool_text()


def spools(text: str) -> None:
    ledger: Any = _Deaf()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "c1.1.jsonl").write_bytes(text.encode(errors="replace"))
        sweep(folder, ledger)
        send_again(folder, ledger, 5, 1000)


def worker_files(text: str) -> None:
    """What a worker reads of its own folder: a test of the same user may have written there."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for file in ("ended.json", "servers.json", "host.json"):
            (base / file).write_bytes(text.encode(errors="replace"))
        EndedRuns(base / "ended.json")
        WorkFolder(base).servers()
        RunFolder(base).published()


_TIMINGS = {"t:a.T.x": timings.Sample(1.5, 3), "c:a.T": timings.Sample(0.5, 2)}


def timing_samples(text: str) -> None:
    sample = timings.decode(text)
    assert sample is None or isinstance(sample, timings.Sample)


def timing_files(text: str) -> None:
    for parse in (timing_format.from_json, timing_format.from_csv):
        with contextlib.suppress(timing_format.BadTimings):
            assert all(0 <= sample.seconds < 1e9 for sample in parse(text).values())


DOORS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "signed messages": (BODIES, signed_messages),
    "damaged messages": (SIGNED, damaged_messages),
    "stream": (_FIELDS, stream_entries),
    "records": (_SIGNED_RECORDS, signed_records),
    "ledger": (
        st.tuples(_ANSWERS, st.none() | st.binary(max_size=60) | SIGNED.map(_bytes)),
        ledger_answers,
    ),
    "registry": (_ENTRIES, registry_values),
    "queue": (SIGNED | TEXT, broker_hints),
    "queue, lists": (_LISTED | st.binary(max_size=200) | JSON, broker_lists),
    "code": (_INDEX | st.binary(max_size=200) | JSON, code_indices),
    "pipe, bytes": (st.binary(max_size=300), wire_frames),
    "pipe, messages": (
        st.sampled_from(RECORDS).flatmap(
            lambda one: mutated({"kind": one.kind, **codec.encode(one)})
        )
        | JSON,
        wire_messages,
    ),
    "pipe, databases": (mutated(_DATABASE) | mutated(_CONFIGURED) | JSON, loader_rows),
    "journal": (TEXT | SIGNED | JSON.map(json.dumps), journal_lines),
    "head": (st.binary(max_size=300), heads),
    "spool": (damaged(_SPOOL), spools),
    "worker's files": (TEXT | JSON.map(json.dumps), worker_files),
    "timings": (TEXT | JSON.map(json.dumps), timing_samples),
    "files of timings": (
        damaged(timing_format.to_json(_TIMINGS))
        | damaged(timing_format.to_csv(_TIMINGS))
        | mutated(json.loads(timing_format.to_json(_TIMINGS))).map(json.dumps)
        | TEXT,
        timing_files,
    ),
}


def play(name: str, examples: int) -> None:
    """Raises whatever the door lets through."""
    strategy, check = DOORS[name]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(strategy)
    def door(value: Any) -> None:
        check(value)

    door()


def shares(examples: int) -> Iterator[tuple[str, int]]:
    each = -(-examples // len(DOORS))
    return ((name, each) for name in DOORS)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes every door of the protocol.")
    parser.add_argument(
        "--examples", type=int, default=100_000, help="in all doors together (default: 100000)"
    )
    logging.disable(logging.CRITICAL)
    bad = total = 0
    for name, examples in shares(parser.parse_args().examples):
        start = time.monotonic()
        try:
            play(name, examples)
            result = "held"
        except Exception as error:
            bad += 1
            # Hypothesis's notes have the value.
            notes = "\n".join(getattr(error, "__notes__", []))
            result = f"LET THROUGH {type(error).__name__}: {error}\n{notes}"
        total += examples
        print(
            f"{name:18} {examples:7,} examples {time.monotonic() - start:7.1f} s  {result}",
            flush=True,
        )
    print(f"{total:,} examples over {len(DOORS)} doors; {bad} let something through")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
