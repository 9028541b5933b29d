"""One run in one slot: its test process, its clones, and when the slot backs off.

The life of a test process, in order: `_fork`, `SlotDatabases.take`, `_attach`, then chunks (`used`
after each that ran to its end), then `retire`. `process_for` repeats the first three whenever the
present process or its clones do not suit the next chunk.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from dct_celery import machine
from dct_celery.core import order, retry
from dct_celery.core.databases.clone_state import CloneState
from dct_celery.core.databases.server_fault import fault_in_answer
from dct_celery.core.databases.usage import Changes, totals
from dct_celery.core.model import END_OF_SESSION, Chunk, Failure, Outcome
from dct_celery.core.plan.limits import FIXTURE_SECONDS
from dct_celery.core.retry import Retry
from dct_celery.errors import DatabaseError, DctError, ProcessDied, ProtocolError, ServerFault
from dct_celery.ports import Clock, DatabaseServer, DatabaseSpec, Ledger
from dct_celery.wire import messages
from dct_celery.wire.messages import LOADING
from dct_celery.worker.databases import retries
from dct_celery.worker.databases.clone_maker import FLUSHED, PRISTINE, CloneMaker
from dct_celery.worker.databases.naming import MEASURED_DAYS, CloneNaming
from dct_celery.worker.databases.server_probe import ServerProbe
from dct_celery.worker.databases.templates import Templates, identities
from dct_celery.worker.folders.work_folder import PublishedRun, RunFolder
from dct_celery.worker.health.memory_pressure import MemoryPressure
from dct_celery.worker.health.slot_backoff import Permits, SlotBackoff
from dct_celery.worker.processes.test_process import TestProcess
from dct_celery.worker.services import WorkerServices

log = logging.getLogger(__name__)
#: Seconds to attach: a project's own setup_databases may load rows.
ATTACH_SECONDS = 600.0
#: Seconds to wait for a database server that is away, the lease kept meanwhile.
AWAY_SECONDS = 120.0
#: Seconds for fixtures of the session once the run is over.
LEAVE_SECONDS = 5.0
#: Seconds that stand for no limit of a fixture.
NO_LIMIT = 86_400.0
#: Pauses, in seconds, before retrying a server without free connections; then the slot backs off.
_SHORTAGE = (1.0, 2.0, 4.0)
#: Seconds before retrying a server that has ended our sessions.
_BREATH = 0.5
#: Attempts to load the project, where it is not forked, before this worker gives up. Once some slot
#: has succeeded, it does not: then slots are in each other's way.
LOADS = 2
#: Seconds to wait for a spare that is being made; then the slot makes its own.
SPARE_SECONDS = 120.0
#: Seconds between two checks for such a spare.
_SPARE_PAUSE = 0.005


class SlotDatabases:
    """The clones of one slot, and what the tests have done to them."""

    def __init__(self, specs: Sequence[DatabaseSpec], maker: CloneMaker, clock: Clock) -> None:
        self.servers = maker.servers
        self._specs = specs
        self._maker = maker
        self._clock = clock
        #: Alias -> name of the clone.
        self._clones: dict[str, str] = {}
        self._state = CloneState()
        #: Schema of each clone when the test process had attached.
        self._shapes: dict[str, str] = {}
        #: What rolls back has left each schema as it was.
        self._intact = True
        self._waited = 0.0
        self._changes = Changes()

    def take(self, chunk: Chunk) -> dict[str, str]:
        """Clones as the chunk needs them: alias -> name. Raises DatabaseError."""
        began = self._clock.monotonic()
        for spec in self._specs:
            kind = FLUSHED if spec.alias in self.flushed(chunk) else PRISTINE
            self._clones[spec.alias] = self._take_one(spec, kind)
        self._waited += self._clock.monotonic() - began
        return dict(self._clones)

    def flushed(self, chunk: Chunk) -> list[str]:
        """Aliases whose clone is to come from a flushed template."""
        return [
            spec.alias
            for spec in self._specs
            if not spec.late_flush and not spec.names.isdisjoint(chunk.flushed)
        ]

    def late_flushes(self, chunk: Chunk) -> list[str]:
        """Aliases that the test process itself has to flush before the chunk."""
        return [
            spec.alias
            for spec in self._specs
            if spec.late_flush and not spec.names.isdisjoint(chunk.flushed)
        ]

    def attached(self, chunk: Chunk) -> None:
        """The test process has opened the clones for this chunk. Raises DatabaseError."""
        self._shapes = self._shapes_now()
        self._state = CloneState(chunk.flushed)
        self._intact = True

    def used(self, chunk: Chunk) -> list[str]:
        """The chunk ran to its end on these clones.

        Returns the aliases of which its tests have changed the schema, although they roll back:
        MySQL does not roll that back, and nothing does what is committed in `setUpClass`. Tests
        that flush see each other's schema in the sequential run, too.
        """
        self._state = self._state.after(chunk)
        if self._state.used_by is not None:
            return []
        try:
            now = self._shapes_now()
        except DatabaseError:
            self._intact = False
            return []
        changed = [alias for alias, shape in now.items() if shape != self._shapes[alias]]
        self._intact = not changed
        return changed

    def suit(self, chunk: Chunk) -> bool:
        """The clones are as the chunk needs them."""
        return self._state.suits(chunk) and self._healthy()

    def retire(self) -> None:
        """Gives the clones back to the pool; nothing is connected any more."""
        for name in self._clones.values():
            self._maker.folder.retire(name)
        self._clones = {}

    def use(self) -> dict[str, float]:
        """What is new since the last call: see core.databases.usage."""
        stats = (asdict(server.stats) for server in self.servers.values())
        return self._changes.since(totals(stats, waited_seconds=self._waited))

    def close(self) -> None:
        for server in self.servers.values():
            with contextlib.suppress(DctError):
                server.close()

    def _take_one(self, spec: DatabaseSpec, kind: str) -> str:
        """A spare, or else a clone that the slot makes itself; noted as this slot's."""
        if spare := self._spare(spec.alias, kind):
            return spare
        if kind == FLUSHED:
            self._maker.templates.ensure_flushed([spec.alias])
        return self._maker.make(spec, kind)

    def _spare(self, alias: str, kind: str) -> str | None:
        """Waits for one that is being made: making two at a time would not be faster."""
        folder = self._maker.folder
        deadline = self._clock.monotonic() + SPARE_SECONDS
        while True:
            # Asked before taking: in between, the spare may be finished.
            coming = folder.is_making(alias, kind) and self._clock.monotonic() < deadline
            if name := folder.take_spare(alias, kind):
                return name
            if not coming:
                return None
            self._clock.sleep(_SPARE_PAUSE)

    def _healthy(self) -> bool:
        """The clones exist, and what rolls back has left their schemas as they were."""
        if self._state.used_by is None:
            return self._intact
        return all(self.servers[alias].healthy(name) for alias, name in self._clones.items())

    def _shapes_now(self) -> dict[str, str]:
        return {alias: self.servers[alias].shape(name) for alias, name in self._clones.items()}


class SlotRun:
    """One run in one slot, for as long as the worker's main process offers it."""

    def __init__(
        self, services: WorkerServices, run: str, folder: RunFolder, slot: int, state: PublishedRun
    ) -> None:
        self.run = run
        self.folder = folder
        self.owner = state.owner
        self.test_timeout = state.test_timeout
        self.fixture_timeout = state.fixture_timeout
        self.artifacts = state.artifacts
        self.metrics = state.metrics
        self.measured = state.measured
        self.artifact_paths = state.artifact_paths
        self.door = services.door.of_run(run, state.nonce, state.signing_key)
        self.ledger: Ledger = services.ledger(run, self.door)
        self.slot = slot
        self._clock = services.clock
        self._serialized = state.serialized
        #: Chunks that were begun here. Only a wiped or manipulated store gives one twice.
        self._begun: set[str] = set()
        self._databases = self._open_databases(services, state)
        self._forks = 0
        #: Test processes that could not load the project.
        self._not_loaded = 0
        self._permits = Permits(folder.permits, state.slots)
        settings = services.settings
        exempt = not settings.dynamic_scaling or slot < settings.min_slots
        self._memory = MemoryPressure(machine.look, exempt)
        self.backoff = SlotBackoff(folder.backoff / str(slot))
        self.probe = ServerProbe(self._databases.servers.values(), self._clock)
        self._private_tree = services.settings.private_tree
        #: Of the test process.
        self._fork_folder: Path | None = None
        self._told_shared = False
        #: No other slot of this worker may write into the tree at the same time.
        self.alone = state.slots == 1
        self.process: TestProcess | None = None
        #: The last test that the process was given, by its manifest index.
        self._last: int | None = None
        self._session = False
        #: What came of that in processes that have ended, as long as no chunk has recorded it.
        self._torn_down: list[messages.FixtureFinished] = []

    def _open_databases(self, services: WorkerServices, state: PublishedRun) -> SlotDatabases:
        servers: dict[str, DatabaseServer] = {
            spec.alias: services.server_for(spec) for spec in state.specs
        }
        keep_days = MEASURED_DAYS if state.measured else services.settings.keep_days
        naming = CloneNaming(self.run, services.name, state.owner, keep_days)
        cache = services.folder.template_cache(state.key)
        templates = Templates(
            state.key, state.specs, servers, self._fork, cache, naming, self._clock
        )
        again = retries.of_copy(services.settings)
        maker = CloneMaker(
            templates, servers, self.folder.clones, naming, self._clock, self.slot, again
        )
        return SlotDatabases(state.specs, maker, self._clock)

    # -- before a chunk ----------------------------------------------------------------

    def may_claim(self) -> bool:
        """The servers and the machine have room for this slot, and it has not just failed to get
        its databases.
        """
        now = self._clock.monotonic()
        if self.backoff.lasts(now):
            return False
        if reason := self._memory.reason(now):
            self.retire()
            self.backoff.begin(reason, now)
            return False
        return self._permits.have()

    def once(self, chunk: Chunk) -> Chunk:
        """The chunk, in a fresh process if it was begun here before: no class runs twice in one."""
        again = chunk.id in self._begun
        self._begun.add(chunk.id)
        return replace(chunk, fresh_process=True) if again else chunk

    # -- the test process --------------------------------------------------------------

    def process_for(
        self, chunk: Chunk, give_up: Callable[[], bool], number: int = 0
    ) -> TestProcess:
        """A test process whose past and clones suit the chunk. Waits while a database server is
        away, until `give_up` returns True. Raises DatabaseError, ProcessDied.

        `number`: of a process that has to be started; no other process of the run has it.
        """
        if (
            self.process is None
            or not order.ascends((*chunk.preamble, *chunk.indices), self._last)
            or not self._databases.suit(chunk)
            or self.probe.outage()
        ):
            self.retire()
            self._renew_patiently(chunk, give_up, number)
        assert self.process is not None
        self._last = max(chunk.indices)
        return self.process

    def _renew_patiently(self, chunk: Chunk, give_up: Callable[[], bool], number: int) -> None:
        """Waits for a server that is away; asks one without connections a few times."""
        pauses = iter(_SHORTAGE)
        away = Retry(
            lambda failures: _BREATH,
            seconds=AWAY_SECONDS,
            ready=lambda left: self.probe.wait(left, give_up),
        )

        def rule(error: DatabaseError) -> Retry | None:
            self.retire(kill=True)
            if give_up() or error.fault is ServerFault.DISK:
                return None
            if error.fault is ServerFault.CONNECTIONS:
                pause = next(pauses, None)
                return None if pause is None else Retry(lambda failures: pause)
            return away if error.fault or self.probe.away() else None

        retry.call(
            lambda: self._renew(chunk, number),
            DatabaseError,
            rule,
            monotonic=self._clock.monotonic,
            sleep=self._clock.sleep,
            note=lambda error: log.warning(
                "run %s: waiting for a database server: %s", self.run, error
            ),
        )

    def _renew(self, chunk: Chunk, number: int) -> None:
        self.probe.remember()
        self.process = self._fork_for_tests(number)
        clones = self._databases.take(chunk)
        self._attach(self.process, chunk, clones)

    def _fork_for_tests(self, number: int) -> TestProcess:
        folder = self._fork_folder = self._new_fork_folder(f"{self.slot}")
        paths = self.artifact_paths
        if not self._private_tree:
            return self._start(
                folder, shared="DCT_PRIVATE_TREE is off", number=number, artifact_paths=paths
            )
        return self._start(folder, self.folder.layer(folder), number=number, artifact_paths=paths)

    def _fork(self, purpose: str) -> TestProcess:
        return self._start(self._new_fork_folder(purpose))

    def _new_fork_folder(self, purpose: str) -> Path:
        self._forks += 1
        return self.folder.fork_folder(f"{purpose}-{self.slot}-{self._forks}")

    def _start(
        self,
        folder: Path,
        layer: Path | None = None,
        shared: str = "",
        number: int = 0,
        artifact_paths: Sequence[str] = (),
    ) -> TestProcess:
        environment = {
            "TMPDIR": str(self.folder.temporary(folder)),
            "XDG_CACHE_HOME": str(self.folder.cache(self.slot)),
            "DCT_SLOT": str(self.slot),
            "DCT_PROCESS": str(number),
        }
        fifo = self.folder.fork_fifo
        return TestProcess(
            folder,
            fifo,
            environment,
            self._clock,
            layer,
            shared,
            artifact_paths=artifact_paths,
        ).start()

    def _attach(self, process: TestProcess, chunk: Chunk, clones: dict[str, str]) -> None:
        """Has the process connect its aliases to the clones. Raises DatabaseError if it cannot."""
        servers = self._databases.servers
        places = {alias: servers[alias].place(name) for alias, name in clones.items()}
        question = messages.Attach(
            places,
            self._serialized,
            flush=self._databases.late_flushes(chunk),
            servers=identities(servers),
            flushed=self._databases.flushed(chunk),
        )
        answer = process.ask(question, messages.Attached, ATTACH_SECONDS, self.probe.watch)
        if isinstance(answer, messages.Fatal):
            self.retire()
            if answer.reason == "elsewhere":
                # It would be the same in every slot of this worker.
                self.folder.refuse(answer.message)
            fault = fault_in_answer(answer.message, answer.detail)
            why = f"{answer.message} (the server {fault})" if fault else answer.message
            if answer.reason in LOADING:
                line = f"the test process could not load the project by itself: {why}"
                self._not_loaded += 1
                if self._not_loaded >= LOADS and not self.folder.attached:
                    self.folder.refuse(line)
                raise DatabaseError(line, detail=answer.detail, fault=fault)
            raise DatabaseError(
                f"the test process could not attach: {why}", detail=answer.detail, fault=fault
            )
        self.folder.note_attached()
        if answer.shared and not self._told_shared:
            self._told_shared = True
            log.info("run %s: slots share the tree: %s", self.run, answer.shared)
        process.attached(answer.pid)
        self._databases.attached(chunk)

    def retire(self, *, kill: bool = False, limit: float | None = None) -> None:
        """Ends the test process and gives its clones back to the pool. Never raises.

        `limit`: seconds for fixtures of the session; None for the usual ones.
        """
        if self.process is not None:
            if self._session and not kill:
                self._tear_down(self.process, limit)
            self.process.kill() if kill else self.process.finish()
            self.process = None
        self.session = False
        if self._fork_folder is not None:
            self.folder.remove_layer(self._fork_folder)
            self._fork_folder = None
        self._last = None
        self._databases.retire()

    def _tear_down(self, process: TestProcess, limit: float | None) -> None:
        """Has the process tear down the session, and notes what goes wrong."""
        if limit is None:
            usual = FIXTURE_SECONDS if self.fixture_timeout is None else self.fixture_timeout
            limit = usual or NO_LIMIT
        output = ""
        try:
            answer = process.ask(messages.TearDown(), messages.TornDown, limit)
        except (ProcessDied, ProtocolError) as error:
            line = f"in the tear-down of the session: {error}"
            failures: tuple[Failure, ...] = (Failure("error", "dct.ProcessDied", line, line),)
        else:
            if isinstance(answer, messages.TornDown):
                failures, output = answer.failures, answer.output
            else:
                text = f"{answer.message}\n{answer.detail}".rstrip()
                failures = (Failure("error", "dct.Fatal", answer.message, text),)
        if failures:
            log.warning("run %s: the tear-down of the session: %s", self.run, failures[0].text)
            self._torn_down.append(
                messages.FixtureFinished(END_OF_SESSION, Outcome.ERROR, failures, output=output)
            )

    @property
    def session(self) -> bool:
        """The process has fixtures of the session to tear down."""
        return self._session

    @session.setter
    def session(self, lasts: bool) -> None:
        if lasts != self._session:
            self._session = lasts
            self.folder.note_session(self.slot, lasts=lasts)

    def torn_down(self) -> list[messages.FixtureFinished]:
        """What is new: see `END_OF_SESSION`."""
        found, self._torn_down = self._torn_down, []
        return found

    # -- after a chunk -----------------------------------------------------------------

    def used(self, chunk: Chunk) -> list[str]:
        """The chunk ran to its end in the current process; see `SlotDatabases.used`."""
        self.backoff.succeeded()
        return self._databases.used(chunk)

    def back_off(self, reason: str) -> None:
        """Claims nothing for a while; other slots may."""
        seconds = self.backoff.begin(reason, self._clock.monotonic())
        log.warning(
            "run %s: slot %d backs off for %.0f s: %s", self.run, self.slot, seconds, reason
        )

    def database_use(self) -> dict[str, float]:
        """What is new since the last call: see core.databases.usage."""
        return self._databases.use()

    def close(self) -> None:
        """The run is over in this slot."""
        # Nobody waits any more for what the tear-down of a session says; but it is done.
        self.retire(kill=not self._session, limit=LEAVE_SECONDS)
        self._permits.give_back()
        self._databases.close()
