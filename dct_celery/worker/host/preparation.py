"""Everything between "there is a run" and "slots may claim".

In order: the run's specification, its code, the loader, guards, database servers, templates, and
the comparison with the dispatcher's manifest and environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import random
import secrets
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from dct_celery import __version__
from dct_celery.core import retry
from dct_celery.core.databases.usage import totals
from dct_celery.core.environment import (
    UNSET,
    VARIABLE,
    Difference,
    Ignored,
    differences,
    hints,
    told,
)
from dct_celery.core.plan.limits import FIXTURE_SECONDS
from dct_celery.core.retry import Retry
from dct_celery.core.text import first_of, plural
from dct_celery.errors import DatabaseError, LeaseLost, ServerFault, StoreUnavailable, Untrusted
from dct_celery.ports import DatabaseServer, DatabaseSpec, Ledger, UserProcess
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.protocol.door import Door
from dct_celery.protocol.runs import DatabaseRules, ManifestSummary, RunSpec
from dct_celery.protocol.workers import MeasuredReport, ShortReport
from dct_celery.security import guards
from dct_celery.security.files import tail_of
from dct_celery.wire import messages
from dct_celery.wire.process import LOADER_TMPDIR, MACHINE_TMPDIR
from dct_celery.worker.databases import denied, retries
from dct_celery.worker.databases.clone_maker import CloneMaker
from dct_celery.worker.databases.clone_pool import ClonePool
from dct_celery.worker.databases.liveness import LivenessLocks
from dct_celery.worker.databases.naming import MEASURED_DAYS, CloneNaming
from dct_celery.worker.databases.templates import Templates
from dct_celery.worker.folders.work_folder import PublishedRun, RunFolder
from dct_celery.worker.host.suite_comparison import SuiteComparison
from dct_celery.worker.host.system_checks import SystemChecks
from dct_celery.worker.processes.test_process import TestProcess
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.slot.artifacts import adopted

log = logging.getLogger(__name__)
T = TypeVar("T")
E = TypeVar("E", bound=Exception)
#: Version of templates and their marks; part of their keys.
FORMAT = 2
#: Seconds at the end of a run for healing clones for the next one; the others are dropped.
CLOSE_SECONDS = 5.0
#: Seconds between two polls of a loader that is busy.
_POLL = 0.2
#: Seconds for a loader to tear down what it has set up for all its forks.
TEAR_DOWN_SECONDS = 30.0
#: Seconds that a server may be away before it has answered for the first time.
CONNECT_SECONDS = 3.0
#: Seconds that it may be away later.
AWAY_SECONDS = 120.0
#: Seconds that the dispatcher has to replace data of its run that it has not signed.
BELIEF_SECONDS = 20.0
#: Connections for each database that the worker itself needs now and then: locks, helpers, scratch
#: databases.
OWN_CONNECTIONS = 2
#: Seconds before a store that is away is asked again.
_STORE_PAUSE = 0.5


def _spread_pause(failures: int) -> float:
    """Seconds, at random: the attempts of several workers must not coincide."""
    return min(failures, 4) * random.uniform(0.5, 1.0)  # nosec


#: While the store is away.
STORE_AWAY = Retry(lambda failures: _STORE_PAUSE)
#: While the store holds something that the run's dispatcher has not signed.
DISBELIEVED = Retry(lambda failures: _STORE_PAUSE, seconds=BELIEF_SECONDS)


class Refused(Exception):
    """This worker cannot take part, because something differs from the dispatcher. `reason`: one
    line.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass(slots=True)
class Prepared:
    """A run whose chunks the slots of this worker may claim."""

    loaded: messages.Loaded
    specs: list[DatabaseSpec]
    #: Key of the templates.
    key: str
    owner: str
    serialized: dict[str, str] = field(default_factory=dict)
    #: Seconds, by the run's options; None for the usual limits, 0 for none.
    test_timeout: float | None = None
    fixture_timeout: float | None = None
    #: Slots that the database servers have room for.
    slots: int = 1
    #: Files that tests leave are sent to the dispatcher.
    artifacts: bool = False
    #: Coverage is measured.
    measured: bool = False
    #: Globs of files that come home.
    artifact_paths: tuple[str, ...] = ()
    #: What tests use is counted.
    metrics: bool = False
    #: reused | restored | built
    templates: str = ""
    #: Seconds of each step.
    steps: dict[str, float] = field(default_factory=dict)

    def published(self, nonce: str, signing_key: str) -> PublishedRun:
        """What slots need. `nonce` and `signing_key` (its id) come from the announcement."""
        return PublishedRun(
            nonce,
            signing_key,
            tuple(self.specs),
            self.key,
            self.owner,
            self.serialized,
            self.test_timeout,
            self.fixture_timeout,
            self.slots,
            self.artifacts,
            self.measured,
            self.artifact_paths,
            self.metrics,
        )


class Preparation:
    """Prepares one run on this worker. LeaseLost is raised as soon as `over` returns True.

    `wake` is called, in any thread, when the system checks may have news.
    """

    def __init__(
        self,
        services: WorkerServices,
        run: str,
        folder: RunFolder,
        ledger: Ledger,
        over: Callable[[], bool],
        slots: int,
        door: Door,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`door`: the run's."""
        self._services = services
        self._clock = services.clock
        self._wake = wake
        self._run = run
        self._folder = folder
        self._ledger = ledger
        self._over = over
        self._slots = slots
        self._door = door
        self.process: UserProcess | None = None
        self.pool: ClonePool | None = None
        self.checks: SystemChecks | None = None
        #: The loader has something to tear down when it ends.
        self.lasting = False
        self._servers: dict[str, DatabaseServer] = {}
        self._liveness = LivenessLocks(services.clock)
        self._forks = itertools.count(1)
        #: Coverage is measured, also in processes that run no tests: files with what they have
        #: found.
        self._measured, self._nonce = False, ""
        self._coverage_files: list[Path] = []
        #: Patterns of hosts, this worker's own among them.
        self._denied: list[str] = []
        #: Top of this worker's copy of the code.
        self._root = ""
        self._steps: dict[str, float] = {}
        self._since = self._clock.monotonic()

    def prepare(self) -> Prepared:
        """Raises Refused, ProjectError, DatabaseError or another DctError."""
        spec = self._spec()
        self._folder.create()
        loaded = self._load(spec)
        self.lasting = loaded.lasting
        self._step("load")
        log.info("run %s: %d tests loaded in %.2f s", self._run, loaded.count, loaded.seconds)
        if loaded.threads:
            log.info(
                "run %s: nothing is forked, as there are threads: %s",
                self._run,
                first_of(loaded.threads),
            )
        self._check_redis(loaded)
        self._guard(loaded, spec.databases)
        prepared = Prepared(
            loaded,
            [DatabaseSpec.from_dict(data) for data in loaded.databases],
            "",
            secrets.token_hex(8),
        )
        prepared.test_timeout, prepared.fixture_timeout = spec.test_timeout, spec.fixture_timeout
        prepared.artifacts, prepared.metrics = spec.artifacts, spec.metrics
        prepared.measured = self._measured = loaded.measured
        self._nonce = spec.nonce
        prepared.artifact_paths = (*spec.artifact_paths, *loaded.artifact_paths)
        try:
            self._patiently(CONNECT_SECONDS, lambda: self._connect(prepared))
        except DatabaseError as error:
            if found := self._hints(loaded.environment, spec):
                line = f"{error}; {told(found)}"
                raise type(error)(line, detail=error.detail, fault=error.fault) from error
            raise
        self._step("connect")
        templates = self._templates(prepared)
        rebuild = spec.databases.create_db
        prepared.templates = self._patiently(
            AWAY_SECONDS, lambda: templates.ensure_pristine(rebuild=rebuild)
        )
        prepared.key = templates.key
        self._report_measured()
        self._step("templates")
        self.pool = self._pool(prepared, templates, spec.databases.keep)
        self.checks = SystemChecks(
            templates, self.pool, self._wake, passed=prepared.templates == "built"
        )
        prepared.serialized = self._patiently(AWAY_SECONDS, templates.ensure_serialized)
        self._report_measured()
        self._step("serialize")
        if loaded.receivers:
            log.info("run %s: migrating again for %s", self._run, ", ".join(loaded.receivers))
            self._patiently(AWAY_SECONDS, lambda: templates.migrate_again(self._ask_loader))
            self._step("receivers")
        log.info("run %s: templates are %s", self._run, prepared.templates)
        self._compare(loaded, self._manifest(), spec)
        self._step("manifest")
        prepared.steps = self._steps
        return prepared

    def _step(self, name: str) -> None:
        now = self._clock.monotonic()
        self._steps[name] = round(now - self._since, 4)
        self._since = now

    # -- databases ---------------------------------------------------------------------

    def _patiently(self, seconds: float, step: Callable[[], T]) -> T:
        """`step`, retried after failures that were the server's fault, for up to `seconds` while it
        is away. Raises DatabaseError, LeaseLost.
        """

        def rule(error: DatabaseError) -> Retry | None:
            if error.fault is None:
                return None
            return away if error.fault is ServerFault.AWAY else short

        short = retries.of_shortage(self._services.settings)
        away = Retry(_spread_pause, seconds=seconds)
        return self._retried(step, DatabaseError, rule)

    def _persistently(self, step: Callable[[], T]) -> T:
        """`step`, retried until the store answers: its restart is no reason to refuse a run. Raises
        LeaseLost.
        """
        return self._retried(step, StoreUnavailable, lambda error: STORE_AWAY)

    def _believed(self, what: str, read: Callable[[], T]) -> T:
        """What `read` returns. Whoever announced the run has our key, so unsigned data comes from
        someone else, and the dispatcher will replace it. Raises Refused if it does not, LeaseLost.
        """
        try:
            return self._retried(
                lambda: self._persistently(read),
                Untrusted,
                lambda error: DISBELIEVED,
                note=lambda error: None,
            )
        except Untrusted as error:
            raise Refused(f"the run's {what} {error}") from error

    def _retried(
        self,
        step: Callable[[], T],
        errors: type[E],
        rule: Callable[[E], Retry | None],
        note: Callable[[Exception], object] | None = None,
    ) -> T:
        note = note or self._log_retry
        return retry.call(
            step, errors, rule, monotonic=self._clock.monotonic, sleep=self._pause, note=note
        )

    def _log_retry(self, error: Exception) -> None:
        log.warning("run %s: trying again: %s", self._run, error)

    def _pause(self, seconds: float) -> None:
        """Raises LeaseLost as soon as the run is over."""
        deadline = self._clock.monotonic() + seconds
        while self._clock.monotonic() < deadline:
            if self._over():
                raise LeaseLost("the run is over")
            self._clock.sleep(0.1)

    def _guard(self, loaded: messages.Loaded, rules: DatabaseRules) -> None:
        """The dispatcher's checks, repeated with this worker's own lists of what is denied."""
        settings = self._services.settings
        configured = [guards.Configured.from_dict(data) for data in loaded.configured]
        self._denied = [*rules.deny_hosts, *settings.deny_db_host]
        deny = [*rules.deny, *settings.deny_database]
        addresses = self._services.resolve(guards.hosts_to_resolve(configured, self._denied))
        guards.check(
            configured,
            facts=loaded.facts,
            allow=rules.allow,
            deny=deny,
            deny_hosts=self._denied,
            addresses=addresses,
        )

    def _connect(self, prepared: Prepared) -> None:
        """Checks every server, and takes a liveness lock on it before anything is made there."""
        for spec in prepared.specs:
            if spec.alias not in self._servers:
                server = self._services.server_for(spec)
                denied.refuse_address(self._services, spec, server, self._denied)
                self._servers[spec.alias] = server
        self._services.folder.remember_servers(
            spec for spec in prepared.specs if spec.vendor != "sqlite"
        )
        self._liveness.start()
        for spec in prepared.specs:
            self._servers[spec.alias].check()
            if spec.alias not in self._liveness:
                self._liveness.give(
                    spec.alias, self._servers[spec.alias].liveness_lock(prepared.owner)
                )
        prepared.slots = self._check_capacity(prepared.specs)

    def _check_capacity(self, specs: Sequence[DatabaseSpec]) -> int:
        """Number of slots that the servers have room for. Per alias, a slot needs one connection
        for its tests and one for its clones.
        """
        aliases: dict[str, list[str]] = {}
        for spec in specs:
            aliases.setdefault(self._servers[spec.alias].where, []).append(spec.alias)
        fit = self._slots
        for where, members in aliases.items():
            free, each = self._servers[members[0]].capacity(), 2 * len(members)
            if free < each:
                raise DatabaseError(
                    f"{where} has {free} connections left, one slot needs {each}: "
                    "raise its max_connections, or end other sessions"
                )
            here = slots_that_fit(self._slots, free, len(members))
            if here < self._slots:
                self._report_short(where, free, each, self._slots - here)
            fit = min(fit, here)
        return fit

    def _report_short(self, where: str, free: int, each: int, number: int) -> None:
        line = (
            f"{number} of {self._slots} slots stay idle: "
            f"{where} has {free} connections left, a slot needs {each}; "
            f"raise its max_connections by {number * each}, or give this worker fewer slots (-c)"
        )
        log.warning("run %s: %s", self._run, line)
        self._persistently(lambda: self._ledger.report(self._services.name, ShortReport(line)))

    def _templates(self, prepared: Prepared) -> Templates:
        facts = [
            [spec.alias, sorted(self._servers[spec.alias].facts().items())]
            for spec in prepared.specs
        ]
        scope = (
            str(self._services.folder.sqlite) + self._services.host
            if any(s.local for s in self._servers.values())
            else ""
        )
        parts = [FORMAT, prepared.loaded.schema, facts, scope]
        if prepared.measured:
            # What a template of an earlier run was made by has not been measured in this one.
            parts.append(self._nonce)
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        cache = self._services.folder.template_cache(key)
        return Templates(
            key,
            prepared.specs,
            self._servers,
            self._fork,
            cache,
            self._naming(prepared),
            self._clock,
            self._liveness,
        )

    def _naming(self, prepared: Prepared) -> CloneNaming:
        keep_days = MEASURED_DAYS if prepared.measured else self._services.settings.keep_days
        return CloneNaming(self._run, self._services.name, prepared.owner, keep_days)

    def _pool(self, prepared: Prepared, templates: Templates, keep: str) -> ClonePool:
        flushed = set(prepared.loaded.flushes)
        return ClonePool(
            templates=templates,
            specs=prepared.specs,
            servers=self._servers,
            folder=self._folder.clones,
            maker=CloneMaker(
                templates,
                self._servers,
                self._folder.clones,
                self._naming(prepared),
                self._clock,
                "p",
                retries.of_copy(self._services.settings),
            ),
            clock=self._clock,
            # No more slots than tests ever get work.
            slots=min(prepared.slots, prepared.loaded.count),
            flushes=frozenset(spec.alias for spec in prepared.specs if spec.names & flushed),
            keep="never" if prepared.measured else keep,
            exports=not prepared.measured,
        )

    def _spec(self) -> RunSpec:
        spec = self._believed("specification", self._ledger.spec)
        if spec is None:
            raise LeaseLost("the run is over")
        if spec.protocol != PROTOCOL_VERSION or spec.version != __version__:
            raise Refused(
                f"the dispatcher runs dct_celery {spec.version}, this worker {__version__}"
            )
        return spec

    def _load(self, spec: RunSpec) -> messages.Loaded:
        root = self._persistently(lambda: self._services.code(spec))
        self._root = str(root)
        os.mkfifo(self._folder.fork_fifo, 0o600)
        temporary = str(self._folder.loader_temporary())
        load = messages.Load(
            backend=spec.backend,
            command=spec.command,
            arguments=spec.arguments,
            root=str(root),
            directory=spec.directory,
            sys_path=[os.path.normpath(root / entry) for entry in spec.sys_path],
            collect_only=False,
            fork_fifo=str(self._folder.fork_fifo),
            temporary=temporary,
            template_depends=list(spec.databases.depends),
            environment_key=self._door.environment_key,
            coverage=spec.coverage,
        )
        # A tree never changes, so bytecode is kept in it: the next run imports faster.
        own = {
            "PYTHONHASHSEED": spec.hash_seed,
            "TMPDIR": os.path.join(temporary, LOADER_TMPDIR),
            MACHINE_TMPDIR: tempfile.gettempdir(),
            "PYTHONDONTWRITEBYTECODE": "",
            # A repository that the work folder happens to lie in is none of the project's.
            "GIT_CEILING_DIRECTORIES": os.path.dirname(root),
        }
        environment = self._services.user_environment(spec.environment, own)
        python = self._services.settings.worker_python or sys.executable
        with self._folder.loader_log.open("ab") as log:
            self.process = self._services.start_process(python, load, environment, log)
        answer = self._wait("building the suite", self._patience(spec))
        if isinstance(answer, messages.Loaded):
            return answer
        assert isinstance(answer, messages.Fatal)
        line = f"the suite cannot be built on this worker: {answer.message}"
        unset = {f"{VARIABLE}{name}": UNSET for name in answer.unset}
        if found := self._hints(unset, spec) if unset else []:
            line = f"{line}; {told(found)}"
        elif "No module named" in answer.message:
            line = f"{line}; tests run with {python} there (the worker's DCT_PYTHON)"
        raise Refused(line, answer.detail)

    def _patience(self, spec: RunSpec) -> float:
        return FIXTURE_SECONDS if spec.fixture_timeout is None else spec.fixture_timeout

    def _ask_loader(self, question: messages.Message) -> messages.Message:
        assert self.process is not None
        self.process.send(question)
        return self._wait("migrating again", FIXTURE_SECONDS)

    def _wait(self, what: str, limit: float) -> messages.Message:
        """The loader's answer. Raises Refused after `limit` seconds (0: no limit)."""
        process = self.process
        assert process is not None
        spent = 0.0  # counted in polls, not by the clock: this worker may have been suspended
        while (answer := process.receive(timeout=_POLL)) is None:
            spent += _POLL
            if self._over():
                raise LeaseLost("the run is over")
            if 0 < limit < spent:
                process.show_stacks()
                process.kill()
                text = tail_of(self._folder.loader_log)
                raise Refused(f"{what} took longer than {limit:g} s (--fixture-timeout)", text)
        return answer

    def _fork(self, purpose: str) -> TestProcess:
        # Called by two threads: the count must be atomic.
        folder = self._folder.fork_folder(f"{purpose}-{next(self._forks)}")
        coverage = ""
        if self._measured:
            self._coverage_files.append(folder / "coverage.data")
            coverage = str(self._coverage_files[-1])
        return TestProcess(
            folder, self._folder.fork_fifo, {}, self._clock, coverage=coverage
        ).start()

    def _report_measured(self) -> None:
        """Sends what processes that run no tests have measured, and have left behind."""
        files, self._coverage_files = self._coverage_files, []
        found = [(file, adopted(file, file.parent)) for file in files]
        artifacts = tuple(artifact for _, artifact in found if artifact is not None)
        if not files:
            return
        contents = [
            (artifact.digest, (file.parent / artifact.digest).read_bytes())
            for file, artifact in found
            if artifact is not None
        ]
        self._persistently(lambda: self._services.send_files(self._run, contents))
        report = MeasuredReport(artifacts, len(files) - len(artifacts))
        self._persistently(lambda: self._ledger.report(self._services.name, report))

    def _manifest(self) -> ManifestSummary:
        """The dispatcher's. Until it is there, clones are made and the system checks begin."""
        while (manifest := self._believed("manifest", self._ledger.manifest)) is None:
            if self._over():
                raise LeaseLost("the run is over")
            if not self._prepare_slots():
                self._clock.sleep(0.02)
        return manifest

    def _hints(self, here: Mapping[str, str], spec: RunSpec) -> list[Difference]:
        """Variables that differ from the dispatcher's: likely causes of an error on this worker.

        The dispatcher's are known when it has collected, without which no worker is of any use.
        """
        return hints(self._manifest().environment, here, _ignored(spec))

    def _prepare_slots(self) -> bool:
        """One step of what slots and system checks need; False when there is nothing to do."""
        if self.pool is None or self.checks is None:
            return False
        busy = self.pool.step()
        if self.pool.filled and not self.pool.quiet:
            with contextlib.suppress(DatabaseError):  # the pool has logged it, and pauses
                self.checks.start()
        return busy

    def _compare(self, loaded: messages.Loaded, manifest: ManifestSummary, spec: RunSpec) -> None:
        different = differences(manifest.environment, loaded.environment, _ignored(spec))
        if loaded.digest != manifest.digest:
            count = plural(loaded.count, "test")
            line = (
                f"the suite differs from the dispatcher's: {count} on the worker,"
                f" {manifest.count:,} on the dispatcher"
            )
            if different:
                line += f"; the environment differs, too: {told(different)}"
            if why := self._suites(loaded.unimported).explain():
                line += f"; {why}"
            raise Refused(line)
        if different:
            raise Refused(f"the environment differs from the dispatcher's: {told(different)}")

    def _suites(self, unimported: Mapping[str, str]) -> SuiteComparison:
        return SuiteComparison(
            self._ledger,
            self._door,
            self._fork,
            self._folder.path / "suite.json",
            self._clock,
            self._over,
            self._root,
            unimported,
        )

    def _check_redis(self, loaded: messages.Loaded) -> None:
        shared = sorted(set(loaded.redis_in_use) & self._services.own_redis)
        if shared:
            raise Refused(
                f"the project uses the Redis database {shared[0]}, which is our store; a FLUSHDB in"
                " a test would erase the run"
                " (give the store a database of its own: --store redis://HOST/1)"
            )

    def close(self) -> None:
        """Ends the loader with all its forks; drops this run's clones or keeps them for later."""
        if self.process is not None:
            self.process.close(grace=TEAR_DOWN_SECONDS if self.lasting else 5.0)
        if self.checks is not None:
            self.checks.join()  # its process has ended with the loader
        try:
            if self.pool is not None:
                self.pool.close(self._clock.monotonic() + CLOSE_SECONDS)
        finally:
            # Without these locks, whatever is left is garbage for every collector.
            self._liveness.close()
            for server in self._servers.values():
                server.close()

    def database_use(self) -> dict[str, float]:
        """Running totals of this process's database operations; see `core.databases.usage`."""
        return totals(asdict(server.stats) for server in self._servers.values())


def slots_that_fit(slots: int, free: int, aliases: int) -> int:
    """Number of slots, at least one, for which `free` connections are enough."""
    return max(1, min(slots, (free - OWN_CONNECTIONS * aliases) // (2 * aliases)))


def _ignored(spec: RunSpec) -> Ignored:
    return Ignored(spec.ignore_packages, spec.ignore_variables)
