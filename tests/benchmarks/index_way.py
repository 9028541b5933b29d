"""The way of one index, counted: `python -m tests.benchmarks.index_way [--list]`.

One test that passes goes from the planner to its verdict, on a real store and broker (the embedded
server): offered and published by the event loop, taken and claimed as a slot does it, ordered from
a test process over real pipes, recorded there, streamed by the slot, read, journalled and folded by
the event loop, acknowledged. Another test has gone the same way before, so that what is made once
is not counted; nor are looks at the registry, which come by the clock.

Printed are the functions and files of this package that ran, the scripts and commands of the store,
and how often JSON was encoded and decoded. What a test process does around a test (loader,
recorder) is not part of it.
"""

from __future__ import annotations

import argparse
import base64
import json.decoder
import json.encoder
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast
from unittest.mock import Mock

from dct_celery import __file__ as package
from dct_celery.adapters.celeryqueue import inbound
from dct_celery.adapters.clock import SystemClock
from dct_celery.adapters.embedded.valkey import EmbeddedValkey
from dct_celery.adapters.redisstore import client, keys
from dct_celery.adapters.redisstore.ledger import RedisLedger
from dct_celery.adapters.redisstore.registry import RedisRegistry
from dct_celery.core.databases.names import queue_name
from dct_celery.core.model import Phase
from dct_celery.ports import WorkerInfo
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.protocol.runs import ChunkHint
from dct_celery.protocol.workers import RunStage
from dct_celery.testproc.channel import Channel
from dct_celery.wire import messages
from dct_celery.worker.processes.test_process import TestProcess
from dct_celery.worker.slot.chunk_run import ChunkRun
from tests.benchmarks.virtual_slots import POOL, RUN, VERSION, CountingConnection, Scene
from tests.support.factories import KEY_ID, group, make_manifest, pool_door, run_door

_ROOT = str(Path(package).parent)
_ENCODE, _DECODE = (
    json.encoder.JSONEncoder.iterencode.__code__,
    json.decoder.JSONDecoder.raw_decode.__code__,
)


class Way:
    """What ran while `watched` was open, in this thread and in those started meanwhile."""

    def __init__(self) -> None:
        self.functions: dict[str, set[str]] = {}
        self.json: Counter[str] = Counter()
        self.part = ""
        self.by_part: dict[str, Counter[str]] = {}

    @contextmanager
    def watched(self, part: str) -> Iterator[None]:
        self.part = part
        self.by_part.setdefault(part, Counter())
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call":
            return
        if code is _ENCODE or code is _DECODE:
            kind = "encoded" if code is _ENCODE else "decoded"
            if any(caller.f_code.co_name == "_mac" for caller in _callers(frame, 3)):
                kind = "encoded for a signature"
            self.by_part[self.part][kind] += 1
        elif code.co_filename.startswith(_ROOT) and not code.co_name.startswith("<"):
            name = f"{code.co_filename.removeprefix(_ROOT + os.sep)}:{code.co_qualname}"
            self.functions.setdefault(name, set()).add(self.part)

    def print(self, *, whole: bool) -> None:
        files = {name.partition(":")[0] for name in self.functions}
        print(f"functions {len(self.functions)}, in {len(files)} files")
        for kind in ("encoded", "decoded", "encoded for a signature"):
            total = sum(counts[kind] for counts in self.by_part.values())
            print(
                f"JSON {kind} {total} times: "
                + ", ".join(f"{part} {c[kind]}" for part, c in self.by_part.items())
            )
        print(
            "commands of the dispatcher: "
            + ", ".join(f"{name} {n}" for name, n in CountingConnection.commands.items())
        )
        print(f"its round trips to the store: {CountingConnection.trips}")
        for name, parts in self.functions.items() if whole else ():
            print(f"  {name} ({', '.join(sorted(parts))})")


def _callers(frame: FrameType, depth: int) -> Iterator[FrameType]:
    caller = frame.f_back
    while caller is not None and depth:
        yield caller
        caller, depth = caller.f_back, depth - 1


class Lane:
    """A slot as far as one chunk needs it, and the other end of its test process."""

    def __init__(self, url: str, folder: Path) -> None:
        self._client = client.connect(url)
        self.ledger = RedisLedger(self._client, RUN, run_door(RUN))
        self._queue = f"{keys.PREFIX}{queue_name(RUN)}"
        inbox, self._order = os.pipe()
        self._records, outbox = os.pipe()
        os.set_blocking(self._records, True)
        self._channel = Channel(inbox, outbox)
        clock = SystemClock()
        self.process = TestProcess(folder, folder / "fork.fifo", {}, clock)
        process = cast(Any, self.process)
        process._inbox, process._outbox = self._order, self._records
        self._slot_run: Any = Mock(
            ledger=self.ledger,
            test_timeout=None,
            fixture_timeout=None,
            process=self.process,
            measured=False,
            metrics=False,
            artifacts=False,
            artifact_paths=(),
            session=False,
            slot=0,
        )
        self._slot_run.torn_down.return_value = []
        self._slot_run.used.return_value = []
        self._slot_run.alone = False
        self._slot_run.folder.spool = folder
        self._slot_run.folder.over = False
        self._slot_run.process_for = lambda *_, **__: self.process
        self._slot_run.database_use = dict
        self._services: Any = Mock(clock=clock)
        self._services.folder.draining = folder / "none"
        self._services.folder.failures = folder / "failures"

    def message(self) -> Any:
        return self._client.rpop(self._queue)

    def take(self, message: Any) -> ChunkRun:
        found = json.loads(inbound.envelope(message, self._queue))
        body = base64.b64decode(found["body"])
        _, text = inbound.admit(
            found["headers"], found["content-type"], found["content-encoding"], body
        )
        hint = run_door(RUN).unseal(ChunkHint, text)
        claim = self.ledger.claim(
            hint.chunk, hint.attempt, worker="build-a", slot=1, lease_ms=30_000
        )
        assert claim.lease is not None
        assert claim.chunk is not None
        return ChunkRun(self._slot_run, claim.lease, claim.chunk, self._services, 30_000)

    def test(self) -> None:
        """The test process: one order, one test that passes."""
        order = self._channel.expect(messages.RunChunk)
        assert order is not None
        for index in order.indices:
            self._channel.hold(messages.started(index))
            self._channel.hold(messages.passed(index, 0.001))
        self._channel.send(messages.ChunkFinished(order.chunk, len(order.indices), {}))


def main() -> int:
    options = _parser().parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dct-way-")))
        url = stack.enter_context(EmbeddedValkey.start(folder)).url
        manifest = make_manifest(*(group(f"suite.Case{n}", Phase.NO_DATABASE) for n in range(3)))
        scene = Scene(argparse.Namespace(reports="none"), folder, url, manifest, 1.0)
        worker = WorkerInfo(
            "build-a", "h", 1, VERSION, PROTOCOL_VERSION, KEY_ID, (KEY_ID,), {RUN: RunStage.READY}
        )
        RedisRegistry(client.connect(url), POOL, pool_door()).beat(worker, 60.0)
        event_loop: Any = scene.event_loop()
        event_loop._journal = scene.journal()
        lane = Lane(url, folder)
        event_loop.step()
        event_loop._next["poll"] = float("inf")
        way = Way()
        # The chunk that is claimed now makes the event loop offer the one that is watched: its way
        # begins there.
        _play(event_loop, lane, Way())
        CountingConnection.trips, CountingConnection.commands = 0, Counter()
        _play(event_loop, lane, way)
        way.print(whole=options.list)
        assert len(scene.machine.verdicts) >= 2
        event_loop._journal.close()
        scene.stored_run.leave()
    return 0


def _play(event_loop: Any, lane: Lane, way: Way) -> None:
    message = lane.message()
    with way.watched("slot"):
        run = lane.take(message)
    with way.watched("dispatcher"):
        event_loop.step()
    run_of_test = threading.Thread(target=lane.test)
    with way.watched("slot"):
        run_of_test.start()
        run.execute()
        run_of_test.join()
    with way.watched("dispatcher"):
        event_loop.step()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.index_way", description=__doc__
    )
    parser.add_argument("--list", action="store_true", help="name the functions")
    return parser


if __name__ == "__main__":
    sys.exit(main())
