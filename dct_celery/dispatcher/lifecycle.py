"""One run from the command to its report: one method for each step, in order.

    start collecting · open (snapshot, specification) · compare brokers · collect · plan
    · follow · finish

The run is opened as soon as the snapshot is in the store, and the manifest follows, so that workers
prepare code, imports and templates while this side still collects. An adopted run (`dct attach`)
starts at the plan.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from dct_celery import __version__
from dct_celery.core import part as parts
from dct_celery.core.databases.vendors import require_supported
from dct_celery.core.model import (
    BAD_OUTCOMES,
    Entry,
    Manifest,
    Outcome,
    RunReport,
    SequentialTime,
    Verdict,
)
from dct_celery.core.plan import last_failures, planner, sequential, timings
from dct_celery.core.plan.last_failures import LastFailures
from dct_celery.core.plan.limits import FIXTURE_SECONDS, Limits
from dct_celery.core.plan.order_facts import OrderFact, OrderFacts
from dct_celery.core.run.blame import Deaths
from dct_celery.core.run.doubts import Doubts
from dct_celery.core.run.machine import RunMachine
from dct_celery.core.run.near_limits import NearLimits
from dct_celery.core.run.reruns import Reruns
from dct_celery.core.run.view import RunView
from dct_celery.core.text import first_of, plural
from dct_celery.dispatcher import (
    bisect,
    coverage,
    env_files,
    failure_memory,
    kept_files,
    order_memory,
    warm,
)
from dct_celery.dispatcher.adopt import Adopted
from dct_celery.dispatcher.collect import Collected, Patience, collect
from dct_celery.dispatcher.event_loop import ELSEWHERE, EventLoop
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.journal import Journal, open_journal
from dct_celery.dispatcher.request import Request, collect_order, external_pythonpath
from dct_celery.dispatcher.run_snapshot import RunSnapshot
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.dispatcher.stored_run import StoredRun
from dct_celery.dispatcher.timing_files import PROJECTS_OWN
from dct_celery.dispatcher.trial import Times
from dct_celery.dispatcher.warm import Warmed
from dct_celery.errors import (
    ConfigError,
    DctError,
    InfrastructureError,
    Interrupted,
    NothingSelected,
    StoreUnavailable,
    Superseded,
    UsageError,
)
from dct_celery.ports import RUN_SECONDS, UserProcess
from dct_celery.ports.reporting import CoverageArrived, Finished, Notice, Started, Warned
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.protocol.heads import compress
from dct_celery.protocol.runs import SPEC_LIFETIME_MS, DatabaseRules, RunSpec
from dct_celery.security import guards, masking
from dct_celery.security.files import tail


@dataclass(frozen=True, slots=True)
class Known:
    """A run whose tests are known, ready to be planned and followed."""

    stored_run: StoredRun
    snapshot: RunSnapshot
    collected: Collected


@dataclass(frozen=True, slots=True)
class Planned:
    """A planned run, ready to be followed, with all that its report is made of."""

    known: Known
    machine: RunMachine
    fleet: Fleet
    event_loop: EventLoop
    #: What earlier runs took, by `core.plan.timings`.
    samples: dict[str, timings.Sample]
    #: Those of them that came from a file and are not in the store.
    imported: dict[str, timings.Sample]
    #: What they found out about the order of tests.
    order_facts: OrderFacts
    #: What the last `dct try` of these tests took in one process.
    sequential: SequentialTime | None


class RunLifecycle:
    """One run. Call `run` or `go_on`, once; both raise DctError if there is nothing to report."""

    def __init__(self, services: DispatcherServices, request: Request) -> None:
        self._services = services
        self._request = request
        self._started = services.clock()
        #: Unix seconds at which the run began, under its first dispatcher.
        self._began = services.wall()
        #: Seconds that it took under earlier dispatchers, from the clocks of both machines.
        self._before = 0.0
        #: Seconds of the parts of the run, by name.
        self._seconds: dict[str, float] = {}
        #: Paths that workers get.
        self._sent: Collection[str] = ()
        #: Name under which the store keeps what runs of this project teach.
        self._project = project_name(request)
        #: What it keeps, and which tests failed last; None until they are asked for.
        self._stored: dict[str, str] | None = None
        self._failures: LastFailures | None = None

    def run(self) -> RunReport:
        """Runs a new run, and returns its report."""
        with self._collected() as known:
            planned = self._start(known, self._urgent(known))
            self._follow(planned, partial(self._first_journal, known))
            return self._finish(planned)

    def warm(self) -> Warmed:
        """Has every worker prepare the run, of which nothing runs, and returns what came of it."""
        with self._collected() as known:
            planned = self._start(known, nothing_runs=True)
            warmed = warm.wait(
                self._services, planned.event_loop, planned.fleet, known.collected.loaded
            )
            self._save_build_seconds(planned)
            return warmed

    def go_on(self, adopted: Adopted) -> RunReport:
        """Goes on with an adopted run, and returns its report.

        It continues after its journal and, if the store is whole, after the stream. If not, the run
        is put back into the store.
        """
        services, snapshot = self._services, adopted.snapshot
        self._began, self._before = snapshot.began, max(services.wall() - snapshot.began, 0.0)
        stored_run = StoredRun(
            services,
            adopted.spec,
            self._upload_again,
            epoch=adopted.epoch,
            incarnation=adopted.incarnation,
        )
        try:
            stored_run.give(head=compress(snapshot.text(services.door)))
            planned = self._start(Known(stored_run, snapshot, snapshot.to_collected()))
            try:
                planned.event_loop.catch_up(adopted.journal, whole=adopted.whole)
            except StoreUnavailable:
                # The run has not ended: another `dct attach` can go on with it.
                stored_run.hand_over()
                raise
            self._follow(planned, lambda: adopted.journal)
            return self._finish(planned)
        finally:
            stored_run.leave()

    @contextlib.contextmanager
    def _collected(self) -> Iterator[Known]:
        """A new run that is open in the store and whose tests are known; it is left at the end."""
        with tempfile.TemporaryFile() as log:
            process = self._start_collecting(log)
            stored_run: StoredRun | None = None
            try:
                stored_run = self._open()
                self._services.queue.check()
                self._compare_brokers()
                yield self._collect(stored_run, process, log)
            finally:
                process.kill()
                process.close(grace=1.0)
                if stored_run is not None:
                    stored_run.leave()

    def _start(
        self, known: Known, urgent: Collection[int] = (), *, nothing_runs: bool = False
    ) -> Planned:
        """Plans the run, gives workers the manifest, and tells reporters."""
        planned = self._plan(known, urgent, nothing_runs=nothing_runs)
        known.stored_run.give(manifest=known.snapshot.manifest)
        self._report_start(planned)
        return planned

    # -- start collecting --------------------------------------------------------------

    def _start_collecting(self, log: IO[bytes]) -> UserProcess:
        request, services = self._request, self._services
        for entry in external_pythonpath(services.environ, Path(request.root)):
            services.report(
                Warned(
                    f"PYTHONPATH entry {entry} lies outside {request.root}; workers need it in"
                    " theirs"
                )
            )
        own = {"PYTHONHASHSEED": request.hash_seed}
        environment = services.user_environment(request.environment, own)
        order = replace(
            collect_order(request),
            environment_key=services.door.environment_key,
            coverage=services.settings.coverage,
        )
        return services.start_process(
            services.settings.python or sys.executable, order, environment, log
        )

    # -- open --------------------------------------------------------------------------

    def _open(self) -> StoredRun:
        services = self._services
        spec = self._specification(self._snapshot())
        if not services.ledger.open_run(services.owner, spec, RUN_SECONDS):
            raise UsageError(
                f"a run with the id {services.run!r} is open or just ended; choose another --run-id"
            )
        stored_run = StoredRun(services, spec, self._snapshot)
        try:
            stored_run.announce()
        except DctError:
            stored_run.leave()
            raise
        return stored_run

    def _snapshot(self) -> str:
        start = self._services.clock()
        snapshot, files, sent = self._services.snapshot(
            Path(self._request.root), self._services.blobs
        )
        self._note("snapshot", start)
        self._sent = snapshot.paths
        if self._services.settings.code == "snapshot":
            self._services.report(
                Notice(f"snapshot of {plural(files, 'file')}, {sent:,} bytes sent")
            )
        return snapshot.digest

    def _specification(self, tree: str) -> RunSpec:
        services, request, settings = self._services, self._request, self._services.settings
        return RunSpec(
            run=services.run,
            nonce=services.nonce,
            protocol=PROTOCOL_VERSION,
            version=__version__,
            expires_ms=services.store_ms() + SPEC_LIFETIME_MS,
            tree=tree,
            code=settings.code,
            backend=request.backend,
            command=request.command,
            arguments=request.arguments,
            directory=request.directory,
            sys_path=request.sys_path,
            environment=request.environment,
            hash_seed=request.hash_seed,
            ignore_packages=settings.ignore_package,
            ignore_variables=settings.ignore_env,
            artifacts=bool(settings.artifacts),
            coverage=settings.coverage,
            artifact_paths=settings.artifact_path,
            metrics=settings.metrics,
            test_timeout=settings.test_timeout,
            fixture_timeout=settings.fixture_timeout,
            databases=DatabaseRules(
                settings.create_db,
                settings.keep_databases,
                settings.template_depends,
                settings.allow_database,
                settings.deny_database,
                settings.deny_db_host,
            ),
        )

    def _upload_again(self) -> None:
        """Sends the code for workers that join later. On a machine without it, nothing is sent:
        workers that have the code go on.
        """
        root = Path(self._request.root)
        if root.is_dir():
            self._services.snapshot(root, self._services.blobs)

    # -- compare brokers ---------------------------------------------------------------

    def _compare_brokers(self) -> None:
        """Raises ConfigError if all workers listen to another broker, and so get no message."""
        services = self._services
        fleet = self._fleet()
        deadline = services.clock() + ELSEWHERE
        while services.fall_back is None:
            fleet.broker = services.broker()
            fleet.update(services.registry.workers(), services.clock())
            if not fleet.all_elsewhere or services.interrupted():
                return
            if services.clock() > deadline:
                raise ConfigError(fleet.misled())
            services.sleep(0.5)

    def _fleet(self) -> Fleet:
        services = self._services
        return Fleet(
            services.run,
            services.settings.pool,
            __version__,
            PROTOCOL_VERSION,
            services.door.keyring.ids[0],
        )

    # -- collect -----------------------------------------------------------------------

    def _collect(self, stored_run: StoredRun, process: UserProcess, log: IO[bytes]) -> Known:
        services = self._services
        request = self._request
        limit = services.settings.fixture_timeout
        patience = Patience(FIXTURE_SECONDS if limit is None else limit, services.clock)
        meanwhile = partial(self._while_collecting, stored_run)
        collected = collect(process, lambda: tail(log), meanwhile, patience)
        masking.PROCESS.learn(masking.secrets_of_databases(collected.loaded.databases))
        self._note("collect", self._started)
        if services.settings.code == "snapshot":
            env_files.refuse_missing(request, collected.loaded.variables, self._sent)
        meanwhile()
        count = len(collected.manifest)
        if not count:
            raise NothingSelected(
                "no test was selected; check labels, -k and --tag",
                session=collected.loaded.session,
            )
        self._choose_last_failed(collected.manifest)
        self._find_part(collected.manifest)
        seed = f", shuffled with seed {request.seed}" if request.seed is not None else ""
        services.report(
            Notice(
                f"collected {plural(count, 'test')} in {self._seconds['collect']:.1f} s{seed}; run"
                f" {services.run}"
            )
        )
        for clause in collected.loaded.not_honoured:
            services.report(Warned(clause))
        self._warn_of_sent_timings(collected.loaded.timings_file)
        if living := collected.loaded.threads:
            services.report(
                Warned(
                    f"threads of the project live once it is imported ({first_of(living)}), so test"
                    " processes are not forked: each imports the project by itself, which took"
                    f" {collected.loaded.seconds:.1f} s here"
                )
            )
        self._guard(collected)
        snapshot = RunSnapshot.of(
            stored_run.spec, self._began, self._request, services.settings, collected, services.door
        )
        return Known(stored_run, snapshot, collected)

    def _warn_of_sent_timings(self, name: str) -> None:
        """`name`: that of the file which the project's settings name; empty: they name none."""
        root, here = self._request.root, self._services.settings
        if not name or here.timings_file is not None:
            return
        path = os.path.realpath(os.path.join(here.project_dir, name))
        if os.path.relpath(path, os.path.realpath(root)) in self._sent:
            self._services.report(
                Warned(
                    f"{PROJECTS_OWN} names a file that is sent to the workers, so that each run"
                    " changes the code; put it into .gitignore"
                )
            )

    def _choose_last_failed(self, manifest: Manifest) -> None:
        """With --last-failed, what failed last time is what runs of the suite."""
        if not self._services.settings.last_failed or self._request.part is not parts.WHOLE:
            return
        chosen = failure_memory.indices(self._last_failures(), manifest)
        if not chosen:
            self._services.report(Notice("no test of these failed when it last ran; all run"))
            return
        self._request = replace(
            self._request, part=parts.Part(parts.names(manifest.entries, chosen))
        )
        self._services.report(Notice(f"{plural(len(chosen), 'test')} that failed last time"))

    def _find_part(self, manifest: Manifest) -> None:
        """Says what of the part is no more. Raises UsageError if that is what it is about."""
        wanted = self._request.part
        _, missing = parts.find(manifest.entries, wanted.tests)
        if wanted.about is not None and wanted.about[0] in missing:
            raise UsageError(
                f"{wanted.about[0]} is not in the suite any more; check out the code of that run"
            )
        if missing:
            lost = f"{plural(len(missing), 'test')} of that process"
            self._services.report(
                Warned(f"{lost} cannot run, as the suite has changed: {first_of(missing)}")
            )

    def _while_collecting(self, stored_run: StoredRun) -> None:
        """Keeps the run announced; ends the collection on an interrupt or if the fleet is gone."""
        services = self._services
        if services.interrupted():
            raise Interrupted("interrupted while collecting; nothing ran")
        if failure := services.fleet_failure():
            line, _, detail = failure.partition("\n")
            raise InfrastructureError(line, detail=detail)
        stored_run.stay()

    def _guard(self, collected: Collected) -> None:
        """Raises ConfigError for what a guard refuses, and for databases that cannot be cloned,
        before anything is published.

        Workers run the same guards, since they may build their templates earlier.
        """
        settings, loaded = self._services.settings, collected.loaded
        for row in loaded.databases:
            require_supported(str(row.get("alias")), str(row.get("vendor")))
        configured = [guards.Configured.from_dict(row) for row in loaded.configured]
        for warning in guards.check(
            configured,
            facts=loaded.facts,
            allow=settings.allow_database,
            deny=settings.deny_database,
            deny_hosts=settings.deny_db_host,
            addresses=self._services.resolve(
                guards.hosts_to_resolve(configured, settings.deny_db_host)
            ),
        ):
            self._services.report(Warned(warning))

    # -- plan --------------------------------------------------------------------------

    def _plan(self, known: Known, urgent: Collection[int], *, nothing_runs: bool) -> Planned:
        services, settings = self._services, self._services.settings
        suite, wanted = known.collected.manifest, known.snapshot.request.part
        manifest = parts.chosen(suite, wanted)
        # A bisection runs anything before its test.
        planned_of = manifest if wanted.question is None else suite
        services.timing_files.keep_projects_own(known.collected.loaded.timings_file)
        stored = self._stored_timings()
        remembered = timings.decode_all(stored)
        # What runs have measured here counts for more than any file.
        samples = services.timing_files.imported | remembered
        imported = {key: samples[key] for key in samples.keys() - remembered.keys()}
        estimates = timings.Estimates(samples, suite.entries, known.snapshot.request.directory)
        facts = self._order_facts(
            stored,
            planned_of,
            planner.atoms(planned_of, estimates),
            settles=self._settles(known.collected),
        )
        plan = planner.Planner(
            facts.planned(),
            chunk_seconds=settings.chunk_seconds,
            separate_failures=self._settles(known.collected),
            limits=Limits(suite, estimates),
            together=wanted.together,
            probes_only=nothing_runs or wanted.question is not None,
            urgent=urgent,
        )
        machine = RunMachine(
            manifest,
            plan,
            maxfail=self._maxfail(known.collected),
            reruns=Reruns.of(settings.reruns, settings.reruns_budget, len(manifest)),
            deaths=Deaths(settings.crash_budget),
            doubts=self._doubts(planned_of, facts) if self._settles(known.collected) else None,
            most_slots=settings.most_slots,
            near_limits=NearLimits(settings.test_timeout, settings.fixture_timeout),
            now=services.clock(),
        )
        fleet = self._fleet()
        fleet.heard_again(services.clock())
        seconds = [_predicted(estimates, entry) for entry in suite.entries]
        view = RunView.of(
            manifest,
            seconds.__getitem__,
            reruns=settings.reruns > 0 or machine.doubts is not None,
            now=services.clock(),
        )
        event_loop = EventLoop(
            services,
            machine,
            fleet,
            known.stored_run,
            view,
            lambda: self._report(planned, complete=False),
        )
        digest = known.collected.loaded.digest
        before = sequential.remembered(stored, digest) if manifest is suite else None
        planned = Planned(known, machine, fleet, event_loop, samples, imported, facts, before)
        return planned

    def _stored_timings(self) -> dict[str, str]:
        """What the store keeps of earlier runs, as it is. Read once."""
        if self._stored is None:
            try:
                self._stored = self._services.timings(self._project).load()
            except StoreUnavailable as error:
                line = f"planned without the timings of earlier runs: {error}"
                self._services.report(Warned(line))
                self._stored = {}
        return self._stored

    def _last_failures(self) -> LastFailures:
        """What is remembered; nothing if it is not signed by the pool, which is said."""
        if self._failures is None:
            self._failures, warning = failure_memory.opened(
                self._stored_timings(), self._services.pool_door, self._project
            )
            if warning:
                self._services.report(Warned(warning))
        return self._failures

    def _urgent(self, known: Known) -> set[int]:
        """Indices of what is to run before all else. Raises ConfigError."""
        settings = self._services.settings
        urgent: set[int] = set()

        def first(found: Collection[int], which: str) -> None:
            urgent.update(found)
            line = (
                f"first the {plural(len(found), 'test')} {which}" if found else f"no test {which}"
            )
            self._services.report(Notice(line))

        manifest = known.collected.manifest
        if settings.failed_first:
            found = failure_memory.indices(self._last_failures(), manifest)
            first(found, "that failed last time")
        if settings.changed_first is not None:
            files = self._services.changed_files(settings.changed_first)
            found = [entry.index for entry in manifest if entry.file in files]
            first(found, f"of files that differ from {settings.changed_first}")
        return urgent

    def _order_facts(
        self,
        stored: dict[str, str],
        manifest: Manifest,
        atoms: tuple[planner.Atom, ...],
        *,
        settles: bool,
    ) -> OrderFacts:
        known: dict[str, OrderFact] = {}
        if settles:
            known, warning = order_memory.opened(stored, self._services.pool_door, self._project)
            if warning:
                self._services.report(Warned(warning))
        digests = order_memory.CodeDigests(Path(self._request.root))
        return OrderFacts(manifest, atoms, known, digests.of)

    def _maxfail(self, collected: Collected) -> int:
        """Failures after which the run ends; 0: it does not."""
        settings = self._services.settings
        return 1 if settings.failfast else settings.maxfail or collected.loaded.maxfail

    def _settles(self, collected: Collected) -> bool:
        """False if each failure is final at once: by choice, or as the first ones end the run."""
        if self._request.part.together:
            return False
        return self._services.settings.settle != 0 and not self._maxfail(collected)

    def _doubts(self, manifest: Manifest, facts: OrderFacts) -> Doubts:
        wanted = self._request.part
        doubts = Doubts(
            manifest,
            facts.planned(),
            budget=self._services.settings.settle,
            passed_alone=facts.passed_alone,
            notes=facts.notes() if wanted.question is None else {},
            ordinary=facts.ordinary(),
        )
        if wanted.question is not None:
            bisect.ask(doubts, manifest, wanted.tests, wanted.question)
        return doubts

    # -- follow ------------------------------------------------------------------------

    def _report_start(self, planned: Planned) -> None:
        self._services.report(
            Started(
                planned.event_loop.view,
                self._services.settings,
                planned.known.collected.rerun,
                partial(self._report, planned, complete=False),
                self._services.run,
                planned.known.collected.loaded.session,
                lambda: [entry.id for entry in planned.known.collected.manifest],
            )
        )

    def _first_journal(self, known: Known) -> Journal:
        text = known.snapshot.text(self._services.door)
        known.stored_run.give(head=compress(text))
        return open_journal(self._services.journals, self._services.run, text, self._services.door)

    def _follow(self, planned: Planned, journal: Callable[[], Journal]) -> None:
        try:
            planned.event_loop.follow(journal)
        except Superseded:
            planned.known.stored_run.hand_over()
            raise
        self._seconds.update(planned.event_loop.seconds)

    # -- finish ------------------------------------------------------------------------

    def _finish(self, planned: Planned) -> RunReport:
        start = self._services.clock()
        self._check_together(planned)
        self._save_timings(planned)
        loaded = planned.known.collected.loaded
        if paths := (*self._services.settings.artifact_path, *loaded.artifact_paths):
            root = Path(self._request.root)
            kept_files.bring_home(self._services, planned.machine, paths, root)
        with self._coverage(planned) as coverage_arrived:
            planned.known.stored_run.leave()
            self._note("finish", start)
            report = self._report(planned, complete=True)
            self._services.report(Finished(report))
            if coverage_arrived is not None:
                self._services.report(coverage_arrived)
        return report

    def _coverage(
        self, planned: Planned
    ) -> contextlib.AbstractContextManager[CoverageArrived | None]:
        """What was measured, while it is there; None if nothing was to be."""
        if not planned.known.collected.loaded.measured:
            return contextlib.nullcontext()
        reports, root = planned.event_loop.worker_reports, Path(self._request.root)
        return coverage.brought_home(self._services, planned.machine, reports, root)

    def _check_together(self, planned: Planned) -> None:
        """Says so if what was to run in one test process did not."""
        if not planned.known.snapshot.request.part.together:
            return
        verdicts = planned.machine.verdicts.values()
        places = {(v.worker, v.slot, v.attempt) for v in verdicts if v.worker is not None}
        if len(places) > 1:
            self._services.report(
                Warned(
                    f"not all of it ran in one process, but in {len(places)}: what a process left"
                    " when it ended early ran in a new one"
                )
            )

    def _save_timings(self, planned: Planned) -> None:
        machine, unmeasured = planned.machine, (Outcome.NOT_RUN, Outcome.SKIPPED)
        ran = [
            (v.entry, v.seconds) for v in machine.verdicts.values() if v.outcome not in unmeasured
        ]
        learned = timings.learn(ran, machine.class_seconds, planned.samples)
        after = timings.without_stale_hints(planned.samples | learned)
        new = {key: after[key] for key in (planned.imported.keys() | learned.keys()) & after.keys()}
        door, project = self._services.pool_door, self._project
        try:
            facts = order_memory.sealed(self._learned_of_order(planned), door, project)
            new |= self._learned_of_building(planned)
            encoded = {name: timings.encode(sample) for name, sample in new.items()}
            failed = last_failures.learn(self._last_failures(), machine.verdicts.values())
            facts |= failure_memory.sealed(failed, door, project)
            alone = self._sequential(planned)
            self._services.timings(project).save({**encoded, **facts, **alone})
        except InfrastructureError as error:
            self._services.report(Warned(f"timings were not saved: {error}"))
        for line in self._services.timing_files.write(after):
            self._services.report(Warned(f"timings were not written: {line}"))

    def _learned_of_building(self, planned: Planned) -> dict[str, timings.Sample]:
        """How long the templates took, if they were built now."""
        seconds = planned.event_loop.worker_reports.databases.build_seconds
        known = planned.samples.get(timings.TEMPLATES)
        return {timings.TEMPLATES: timings.fold(known, seconds)} if seconds else {}

    def _save_build_seconds(self, planned: Planned) -> None:
        learned = self._learned_of_building(planned)
        try:
            self._services.timings(self._project).save(
                {name: timings.encode(sample) for name, sample in learned.items()}
            )
        except InfrastructureError as error:
            self._services.report(Warned(f"timings were not saved: {error}"))

    def _sequential(self, planned: Planned) -> dict[str, str]:
        """What the whole suite took in one process, where it was that, to be stored."""
        part = planned.known.snapshot.request.part
        if not part.together or part.tests or planned.machine.exit_code() not in (0, 1):
            return {}
        seconds = Times.of(self._report(planned, complete=True)).own_command
        digest = planned.known.collected.loaded.digest
        return sequential.encoded(SequentialTime(seconds, digest, self._services.wall()))

    def _learned_of_order(self, planned: Planned) -> dict[str, OrderFact]:
        doubts, verdicts = planned.machine.doubts, planned.machine.verdicts.values()
        if doubts is None:
            return {}
        failed = {doubts.position(v.entry.index) for v in verdicts if v.outcome in BAD_OUTCOMES}
        return planned.order_facts.learn(
            doubts.passed_alone, doubts.findings, doubts.tests, failed, doubts.found_ordinary
        )

    def _wall(self) -> float:
        """Seconds since the run began, those under an earlier dispatcher included."""
        return round(self._before + self._services.clock() - self._started, 3)

    def _database_use(self, planned: Planned) -> dict[str, Any]:
        known = planned.samples.get(timings.TEMPLATES)
        use = planned.event_loop.worker_reports.databases
        return use.to_dict(known.seconds if known else 0.0)

    def _first_failure(self, planned: Planned) -> dict[str, float]:
        """Seconds from the run's beginning to its first failure, if there was one."""
        at = planned.event_loop.first_failure
        return {"first_failure": round(self._before + at - self._started, 3)} if at else {}

    def _report(self, planned: Planned, *, complete: bool) -> RunReport:
        machine, known = planned.machine, planned.known
        manifest = machine.manifest
        facts = {**known.collected.loaded.facts, "dct": __version__}
        if known.snapshot.request.seed is not None:
            facts["shuffle_seed"] = str(known.snapshot.request.seed)
        return RunReport(
            run=self._services.run,
            verdicts=tuple(
                machine.verdicts.get(e.index) or _unfinished(manifest, e.index) for e in manifest
            ),
            fixtures=machine.fixture_verdicts(),
            exit_code=machine.exit_code() if complete else 7,
            seconds={**self._seconds, **self._first_failure(planned), "wall": self._wall()},
            slots=tuple(
                {
                    "worker": worker,
                    "slot": slot,
                    "busy_seconds": round(use.busy_seconds, 3),
                    "chunks": use.chunks,
                }
                for (worker, slot), use in sorted(machine.slots_used.items())
            ),
            started_at=known.snapshot.began,
            hosts={worker.name: worker.host for worker in planned.fleet.workers},
            note=machine.note,
            properties=facts,
            complete=complete,
            databases=self._database_use(planned),
            leaks=tuple(machine.leaks.found),
            bisection=bisect.answer(machine, known.collected, known.snapshot.request.arguments),
            fixture_metrics=machine.fixture_uses.metrics(),
            near_limits=tuple(machine.near_limits.found),
            sequential=planned.sequential,
        )

    def _note(self, part: str, since: float) -> None:
        self._seconds[part] = round(self._services.clock() - since, 3)


def project_name(request: Request) -> str:
    """Name under which timings are kept: the same in every checkout of one project."""
    return f"{Path(request.root).name}:{request.directory}:{request.settings}"


def _predicted(estimates: timings.Estimates, entry: Entry) -> float:
    seconds = estimates.planned(entry)
    return estimates.default(entry.phase) if seconds is None else seconds


def _unfinished(manifest: Manifest, index: int) -> Verdict:
    return Verdict(
        manifest[index], Outcome.NOT_RUN, reason="not finished when this report was written"
    )
