"""How many slots one dispatcher can feed.

`python -m tests.benchmarks.virtual_slots [--tests N] [--slots N] [--milliseconds N]`

A real store and broker (the embedded server), a real dispatcher core (event loop, planner, run
machine, ledger, queue, journal), and slots that run nothing: they take messages, claim, and
complete their chunks with signed records, each test taking its milliseconds by the clock. All slots
live in a few processes, which send what is due in one pipeline. Beside the seconds of the run, the
round trips and commands of the dispatcher are printed by their purpose.
"""

from __future__ import annotations

import argparse
import base64
import heapq
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, cast

import redis

from dct_celery.adapters.celeryqueue.app import make_app
from dct_celery.adapters.celeryqueue.queue import CeleryChunkQueue
from dct_celery.adapters.embedded.valkey import EmbeddedValkey
from dct_celery.adapters.redisstore import client, keys
from dct_celery.adapters.redisstore.blobs import RedisBlobs
from dct_celery.adapters.redisstore.ledger import RedisLedger
from dct_celery.adapters.redisstore.registry import RedisRegistry
from dct_celery.core.databases.names import queue_name
from dct_celery.core.model import Chunk, Manifest, Outcome, Phase, RunReport, Verdict
from dct_celery.core.plan import planner, timings
from dct_celery.core.plan.limits import Limits
from dct_celery.core.run.events import ChunkCompleted
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.machine import RunMachine
from dct_celery.core.run.view import RunView
from dct_celery.dispatcher.event_loop import EventLoop
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.journal import Journal
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.dispatcher.stored_run import StoredRun
from dct_celery.ports import WorkerInfo
from dct_celery.ports.reporting import PartialReport, ReportEvent, Warned
from dct_celery.protocol import PROTOCOL_VERSION, stream
from dct_celery.protocol.runs import ChunkHint
from dct_celery.protocol.workers import RunStage
from dct_celery.reports.files import write_json, write_junit
from dct_celery.settings import Settings
from dct_celery.wire import messages
from tests.support.factories import (
    KEY_ID,
    NONCE,
    group,
    make_manifest,
    make_samples,
    make_spec,
    pool_door,
    run_door,
)

RUN, POOL, VERSION = "virtual", "pool", "0"
#: Milliseconds of a lease, and seconds between two heartbeats of a worker.
LEASE_MS, BEAT = 30_000, 1.0
#: Seconds between two checks by a process of what is due in its slots.
TICK = 0.01
#: What each test has used, see core.metrics: as of one that reads and writes a little.
MEASURED = "7,2,2,2480,3"
#: Seconds after which a slot sends what it has, where a chunk does not say.
BATCH_SECONDS = 0.05


# -- slots -------------------------------------------------------------------------------


class VirtualWorker:
    """Some slots of the pool, in one process. `run` returns when the run is over."""

    def __init__(self, url: str, name: str, slots: int, seconds: float) -> None:
        self._client = client.connect(url)
        self._registry = RedisRegistry(self._client, POOL, pool_door())
        self._door = run_door(RUN)
        self._keys = keys.RunKeys(RUN)
        self._scripts = {
            verb: self._client.script_load(_lua(verb)) for verb in ("claim", "append", "complete")
        }
        self._queue = f"{keys.PREFIX}{queue_name(RUN)}"
        self._name, self._slots, self._seconds = name, slots, seconds
        self._idle = list(range(slots))
        #: (when, slot, what is due then), the earliest first.
        self._due: list[tuple[float, int, _Lane]] = []
        self._beat_at = 0.0

    def run(self) -> None:
        while self._alive(time.monotonic()):
            self._take_messages()
            self._send_due(time.monotonic())
            time.sleep(TICK)

    def _alive(self, now: float) -> bool:
        if now < self._beat_at:
            return True
        self._beat_at = now + BEAT
        info = WorkerInfo(
            self._name,
            self._name,
            self._slots,
            VERSION,
            PROTOCOL_VERSION,
            KEY_ID,
            (KEY_ID,),
            {RUN: RunStage.READY},
        )
        self._registry.beat(info, 30.0)
        return self._client.hget(self._keys.run, "state") == b"open"

    def _take_messages(self) -> None:
        if not self._idle or not (
            taken := cast(Any, self._client.rpop(self._queue, len(self._idle)))
        ):
            return
        hints = [self._door.unseal(ChunkHint, _text_of(message)) for message in taken]
        pipe, slots = self._client.pipeline(transaction=False), []
        for hint in hints:
            slots.append(slot := self._idle.pop())
            args = [hint.chunk, hint.attempt, LEASE_MS, self._name, slot, f"{self._name}.{slot}"]
            self._call(pipe, "claim", hint.chunk, args)
        now = time.monotonic()
        for hint, slot, answer in zip(hints, slots, pipe.execute(), strict=True):
            if answer[0] != b"ok":
                self._idle.append(slot)
                continue
            lease = LeaseRef(hint.chunk, hint.attempt, answer[1], self._name, slot, int(answer[3]))
            lane = _Lane(
                lease,
                stream.unseal_offer(self._door, answer[2].decode(), lease.epoch),
                now,
                self._seconds,
            )
            heapq.heappush(self._due, (lane.next_at(), slot, lane))

    def _send_due(self, now: float) -> None:
        pipe = self._client.pipeline(transaction=False)
        calls = 0
        while self._due and self._due[0][0] <= now:
            _, slot, lane = heapq.heappop(self._due)
            calls += self._send(pipe, lane, now)
            if lane.over:
                self._idle.append(slot)
            else:
                heapq.heappush(self._due, (lane.next_at(), slot, lane))
        if calls and (
            refused := Counter(pipe.execute()) - Counter({b"ok": calls, b"cancelled": calls})
        ):
            raise SystemExit(f"the store refused what a slot sent: {refused}")

    def _send(self, pipe: Any, lane: _Lane, now: float) -> int:
        lease, calls = lane.lease, 1
        if records := lane.take(now):
            text = f"[{','.join(records)}]"
            args = [
                lease.chunk,
                lease.fence,
                lease.attempt,
                lane.seq,
                stream.records(self._door, lease, lane.seq, text),
            ]
            self._call(pipe, "append", lease.chunk, [*args, LEASE_MS, lease.epoch])
        if lane.over:
            end = ChunkCompleted(busy_seconds=lane.busy_seconds)
            sealed = stream.chunk_end(self._door, lease, lane.seq, end)
            args = [lease.chunk, lease.fence, lease.attempt, lane.seq, sealed, lease.epoch]
            self._call(pipe, "complete", lease.chunk, args)
            calls += 1
        return calls

    def _call(self, pipe: Any, verb: str, chunk: str, args: list[Any]) -> None:
        names = [self._keys.run, self._keys.chunk(chunk), self._keys.leases, self._keys.events]
        pipe.evalsha(self._scripts[verb], len(names), *names, *args)


class _Lane:
    """A chunk under way in a slot: its tests end one after the other, `seconds` each."""

    def __init__(self, lease: LeaseRef, chunk: Chunk, began: float, seconds: float) -> None:
        self.lease, self._chunk, self._began, self._seconds = lease, chunk, began, seconds
        self._window = getattr(chunk, "batch_seconds", BATCH_SECONDS)
        #: Number of the last record that was sent.
        self.seq = 0

    @property
    def over(self) -> bool:
        return self.seq == len(self._chunk.indices)

    @property
    def busy_seconds(self) -> float:
        return round(self._seconds * len(self._chunk.indices), 6)

    def next_at(self) -> float:
        """As a slot does it.

        A batch goes out when its first record is old enough, or the chunk has ended.
        """
        end = self._began + self.busy_seconds
        return min(end, self._began + (self.seq + 1) * self._seconds + self._window)

    def take(self, now: float) -> list[str]:
        """Records of the tests that have ended by now."""
        over = now >= self._began + self.busy_seconds
        ended = len(self._chunk.indices) if over else int((now - self._began) / self._seconds)
        indices = self._chunk.indices[self.seq : ended]
        self.seq += len(indices)
        return [messages.passed(index, self._seconds, MEASURED).decode() for index in indices]


def _text_of(message: bytes) -> str:
    arguments, _, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
    return str(arguments[0])


def _lua(verb: str) -> str:
    return Path(client.__file__).with_name("lua").joinpath(f"{verb}.lua").read_text()


def _work(url: str, name: str, slots: int, seconds: float) -> None:
    VirtualWorker(url, name, slots, seconds).run()


# -- the dispatcher ----------------------------------------------------------------------


class CountingConnection(redis.Connection):
    """Counts what is sent to the server, and how often it is waited for."""

    trips: ClassVar[int] = 0
    #: Seconds that each round trip takes on top.
    delay: ClassVar[float] = 0.0
    commands: ClassVar[Counter[str]] = Counter()

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        CountingConnection.trips += 1
        time.sleep(self.delay)
        stock: Any = super()
        stock.send_packed_command(command, check_health)

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        CountingConnection.commands[_name(args)] += 1
        stock: Any = super()
        stock.send_command(*args, **kwargs)

    def pack_commands(self, commands: Any) -> Any:
        commands = list(commands)
        CountingConnection.commands.update(map(_name, commands))
        stock: Any = super()
        return stock.pack_commands(commands)


_SCRIPTS: dict[str, str] = {}


def _name(args: Any) -> str:
    verb = str(args[0])
    return f"{_SCRIPTS.get(str(args[1]), '?')}.lua" if verb == "EVALSHA" else verb


class CountingQueue(CeleryChunkQueue):
    """Counts how often the broker is waited for."""

    trips = 0

    def publish(self, *texts: str) -> None:
        self.trips += 1
        time.sleep(CountingConnection.delay)
        super().publish(*texts)


def main() -> int:
    options = _parser().parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dct-virtual-")))
        url = stack.enter_context(EmbeddedValkey.start(folder)).url
        _play(options, folder, url)
    return 0


def _play(options: argparse.Namespace, folder: Path, url: str) -> None:
    seconds = options.milliseconds / 1000
    manifest = make_manifest(*_classes(options.tests, options.per_class))
    scene = Scene(options, folder, url, manifest, seconds)
    share, rest = divmod(options.slots, options.processes)
    per_worker = [share + (n < rest) for n in range(options.processes)]
    context = multiprocessing.get_context("spawn")
    scene.workers = workers = [
        context.Process(target=_work, args=(url, f"build-{n}", slots, seconds), daemon=True)
        for n, slots in enumerate(per_worker)
        if slots
    ]
    for worker in workers:
        worker.start()
    scene.wait_for(len(workers))
    CountingConnection.trips, CountingConnection.commands = 0, Counter()
    CountingConnection.delay = options.away / 1000
    began, cpu = time.monotonic(), time.process_time()
    scene.follow()
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    scene.stored_run.leave()
    left = time.monotonic() - began - wall
    for worker in workers:
        worker.join(20)
    scene.write_reports(scene.report())
    whole = time.monotonic() - began
    _print(options, scene, wall, left, whole, cpu)


def _classes(tests: int, size: int) -> list[Any]:
    counts = [size] * (tests // size) + [tests % size] * bool(tests % size)
    return [
        group(f"suite.test_{n // 8}.Class{n}Tests", Phase.NO_DATABASE, count)
        for n, count in enumerate(counts)
    ]


class Scene:
    """A run whose manifest is known, with all that its event loop needs."""

    def __init__(
        self,
        options: argparse.Namespace,
        folder: Path,
        url: str,
        manifest: Manifest,
        seconds: float,
    ) -> None:
        pool = redis.ConnectionPool(connection_class=CountingConnection, **_address(url))
        self.client = redis.Redis(connection_pool=pool)
        self.workers: list[Any] = []
        self._door = run_door(RUN)
        self.manifest = manifest
        self._seconds = seconds
        settings = Settings(broker=url, store=url, pool=POOL)
        self._folder, self._reports = folder, options.reports
        estimates = timings.Estimates(make_samples(manifest, [seconds] * len(manifest)), manifest)
        limits = Limits(manifest, estimates)
        plan = planner.Planner(planner.atoms(manifest, estimates), limits=limits)
        self.machine = RunMachine(manifest, plan, now=time.monotonic())
        self.ledger = RedisLedger(self.client, RUN, self._door)
        for name, script in self.ledger._verbs.items():
            _SCRIPTS[script.sha] = name
        self.registry = RedisRegistry(self.client, POOL, pool_door())
        spec = make_spec(RUN)
        self.ledger.open_run("a" * 16, spec)
        self.queue = CountingQueue(make_app(settings), RUN, "benchmark")
        unused: Any = None
        self._services = DispatcherServices(
            settings=settings,
            run=RUN,
            nonce=NONCE,
            owner="a" * 16,
            door=self._door,
            pool_door=pool_door(),
            clock=time.monotonic,
            wall=time.time,
            sleep=time.sleep,
            store_ms=lambda: 0,
            registry=self.registry,
            ledger=self.ledger,
            queue=self.queue,
            blobs=RedisBlobs(self.client),
            files=RedisBlobs(self.client, RUN),
            timings=unused,
            report=self.take,
            state_folder=folder / "state",
            environ={},
            start_process=unused,
            user_environment=unused,
            snapshot=unused,
            supply_code=lambda: None,
            resolve=lambda _: {},
            interrupted=lambda: False,
            fleet_failure=self._fleet_failure,
        )
        self._fleet = Fleet(
            RUN, POOL, VERSION, PROTOCOL_VERSION, KEY_ID, last_usable=time.monotonic()
        )
        self.stored_run = StoredRun(self._services, spec, lambda: None)
        self.stored_run.announce()

    def _fleet_failure(self) -> str:
        return (
            ""
            if all(worker.is_alive() for worker in self.workers)
            else "a process of virtual slots has died"
        )

    def wait_for(self, workers: int) -> None:
        while len(self.registry.workers()) < workers:
            time.sleep(0.05)

    def event_loop(self) -> EventLoop:
        view = RunView.of(
            self.manifest, lambda _: self._seconds, reruns=False, now=time.monotonic()
        )
        event_loop = EventLoop(
            self._services, self.machine, self._fleet, self.stored_run, view, self.report
        )
        event_loop.worker_reports.checked = True
        return event_loop

    def take(self, event: ReportEvent) -> None:
        match event:
            case Warned(text):
                print(f"warning: {text}", flush=True)
            case PartialReport(report):
                self.write_reports(report)
            case _:
                pass

    def journal(self) -> Journal:
        return Journal(self._services.journals, RUN, "head", self._door)

    def follow(self) -> None:
        self.event_loop().follow(self.journal)

    def write_reports(self, report: RunReport) -> None:
        if self._reports in ("junit", "both"):
            write_junit(self._folder / "junit.xml", report)
        if self._reports in ("json", "both"):
            write_json(self._folder / "report.json", report)

    def report(self) -> RunReport:
        machine = self.machine
        return RunReport(
            RUN,
            tuple(
                machine.verdicts.get(entry.index) or Verdict(entry, Outcome.NOT_RUN)
                for entry in self.manifest
            ),
            fixtures=(),
            exit_code=machine.exit_code(),
            complete=machine.finished,
        )


def _address(url: str) -> dict[str, Any]:
    options = client.connect(url).connection_pool.connection_kwargs
    return {**options, "retry": None}


def _print(
    options: argparse.Namespace, scene: Scene, wall: float, left: float, whole: float, cpu: float
) -> None:
    ideal = options.tests * options.milliseconds / 1000 / options.slots
    chunks = sum(use.chunks for use in scene.machine.slots_used.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    slots = resource.getrusage(resource.RUSAGE_CHILDREN)
    server = cast(Any, scene.client.info("cpu"))
    commands = CountingConnection.commands
    for_chunks = commands["commit.lua"] + scene.queue.trips
    by_the_clock = CountingConnection.trips - commands["commit.lua"]
    rows = {
        "seconds of the run": (
            f"{wall:.1f} (ideal {ideal:.1f}), to leave the run {left:.1f}, "
            f"with the last reports {whole:.1f}"
        ),
        "dispatcher": f"{cpu:.1f} s of CPU, {memory:.0f} MiB",
        "what plays the slots": f"{slots.ru_utime + slots.ru_stime:.1f} s of CPU",
        "store and broker": f"{server['used_cpu_user'] + server['used_cpu_sys']:.1f} s of CPU",
        "verdicts": f"{len(scene.machine.verdicts):,}, exit code {scene.machine.exit_code()}",
        "chunks": f"{chunks:,}",
        "round trips for chunks": (
            f"{_each(for_chunks, chunks)}: offers, acknowledgements, messages"
        ),
        "by the clock": (
            f"{by_the_clock:,} ({by_the_clock / wall:.1f} a second): "
            "reads, looks, beginning and end"
        ),
    }
    print(
        f"{options.tests:,} tests of {options.milliseconds:g} ms on {options.slots:,} virtual "
        f"slots, reports: {options.reports}"
    )
    for name, value in rows.items():
        print(f"  {name:26} {value}")
    for name, count in commands.most_common(12):
        print(f"    {name:24} {_each(count, chunks)}")


def _each(count: int, chunks: int) -> str:
    return f"{count:,} ({count / max(chunks, 1):.2f} a chunk)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.virtual_slots", description=__doc__
    )
    parser.add_argument("--tests", type=int, default=200_000)
    parser.add_argument("--slots", type=int, default=1024)
    parser.add_argument("--milliseconds", type=float, default=40.0)
    parser.add_argument("--per-class", type=int, default=4, help="tests of one class")
    parser.add_argument("--processes", type=int, default=2, help="processes that play the slots")
    parser.add_argument(
        "--away",
        type=float,
        default=0.0,
        help="milliseconds from the dispatcher to store and broker and back",
    )
    parser.add_argument("--reports", choices=["none", "junit", "json", "both"], default="none")
    return parser


if __name__ == "__main__":
    sys.exit(main())
