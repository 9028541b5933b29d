"""One run from the command to its exit code: collect ‖ snapshot → open → publish → follow → finish.

Workers start on code, imports and templates while this side still collects: the run is opened as soon as the snapshot is in
the store, and the manifest follows.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from dct_celery import __version__, security
from dct_celery.core import planner, signing, timings
from dct_celery.core.databaseuse import DatabaseUse
from dct_celery.core.model import Manifest, Outcome, RunReport, Verdict
from dct_celery.core.reruns import Reruns
from dct_celery.core.run import RunMachine
from dct_celery.dispatcher.collect import Collected, collect
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.follow import Follower
from dct_celery.dispatcher.request import Request, collect_order, strangers
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.errors import InfrastructureError, Interrupted, NothingSelected, UsageError
from dct_celery.ports import TimingStore, UserProcess
from dct_celery.wire import messages

#: Seconds that an announced run counts as alive without a word of its dispatcher.
HORIZON = 60.0


@dataclass(slots=True)
class Stopwatch:
    """Seconds of the parts of a run, by name."""

    services: DispatcherServices
    started: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, since: float) -> None:
        self.seconds[name] = round(self.services.clock() - since, 3)


class Dispatch:
    """One run. `execute` is called once."""

    def __init__(self, services: DispatcherServices, request: Request) -> None:
        self._services = services
        self._request = request
        self._watch = Stopwatch(services, services.clock())
        self._began = services.wall()
        self._opened = False
        self._databases = DatabaseUse()

    def execute(self) -> int:
        """The exit code by I10. Raises DctError when there is nothing to report on."""
        console = self._services.console
        with tempfile.TemporaryFile() as log:
            process = self._start_collecting(log)
            try:
                self._open(self._snapshot())
                self._services.queue.check()
                collected = self._collect(process, log)
                return self._run(collected)
            finally:
                process.kill()
                process.close(grace=1.0)
                console.close()
                self._leave()

    # -- before the run ----------------------------------------------------------------

    def _start_collecting(self, log: IO[bytes]) -> UserProcess:
        request, services = self._request, self._services
        for entry in strangers(services.environ, request.root):
            services.console.warn(f"PYTHONPATH entry {entry} lies outside {request.root}; workers need it in theirs")
        environment = services.user_environment({}, {"PYTHONHASHSEED": request.hash_seed})
        return services.start_process(services.settings.python or sys.executable, collect_order(request), environment, log)

    def _snapshot(self) -> str:
        start = self._services.clock()
        snapshot, files, sent = self._services.snapshot(self._request.root, self._services.blobs)
        self._watch.note("snapshot", start)
        if self._services.settings.code == "snapshot":
            self._services.console.line(f"snapshot of {files:,} files, {sent:,} bytes sent")
        return snapshot.digest

    def _open(self, tree: str) -> None:
        services, request, settings = self._services, self._request, self._services.settings
        spec = {
            "run": services.run,
            "protocol": messages.PROTOCOL_VERSION,
            "version": __version__,
            "tree": tree,
            "code": settings.code,
            "argv": list(request.argv),
            "settings": request.settings,
            "directory": request.directory,
            "sys_path": list(request.sys_path),
            "environment": dict(request.environment),
            "hash_seed": request.hash_seed,
            "ignore_packages": list(settings.ignore_package),
            "test_timeout": settings.test_timeout,
            "databases": {
                "create_db": settings.create_db,
                "keep": settings.keep_databases,
                "depends": list(settings.template_depends),
                "allow": list(settings.allow_database),
                "deny": list(settings.deny_database),
                "deny_hosts": list(settings.deny_db_host),
            },
        }
        if not services.ledger.open_run(services.owner, signing.sign(spec, services.key), 6 * 3600):
            raise UsageError(f"a run with the id {services.run!r} is open or just ended; choose another --run-id")
        self._opened = True
        services.registry.announce(services.run, HORIZON)

    def _collect(self, process: UserProcess, log: IO[bytes]) -> Collected:
        collected = collect(process, lambda: _tail(log), self._while_collecting)
        self._watch.note("collect", self._watch.started)
        self._while_collecting()
        count = len(collected.manifest)
        if not count:
            raise NothingSelected("no test was selected; check labels, -k and --tag")
        seed = f", shuffled with seed {self._request.seed}" if self._request.seed is not None else ""
        self._services.console.line(
            f"collected {count:,} test{'s' * (count != 1)} in {self._watch.seconds['collect']:.1f} s{seed}; "
            f"run {self._services.run}"
        )
        for method in collected.loaded.not_honoured:
            self._services.console.warn(f"{method} is overridden, but a distributed run does not call it")
        self._guard(collected)
        return collected

    def _guard(self, collected: Collected) -> None:
        """Before anything is published. Workers may be quicker with their templates, so they ask the same for themselves."""
        settings, loaded = self._services.settings, collected.loaded
        for warning in security.check(
            [security.Configured.from_dict(row) for row in loaded.configured],
            facts=loaded.facts,
            allow=settings.allow_database,
            deny=settings.deny_database,
            deny_hosts=settings.deny_db_host,
        ):
            self._services.console.warn(warning)

    def _while_collecting(self) -> None:
        """A long collection must neither outlive its user's patience nor its own announcement."""
        services = self._services
        if services.interrupted():
            raise Interrupted("interrupted while collecting; nothing ran")
        if trouble := services.fleet_trouble():
            line, _, detail = trouble.partition("\n")
            raise InfrastructureError(line, detail=detail)
        services.registry.announce(services.run, HORIZON)

    # -- the run -----------------------------------------------------------------------

    def _run(self, collected: Collected) -> int:
        services, settings = self._services, self._services.settings
        manifest = collected.manifest
        store = services.timings(self._project())
        samples = {name: sample for name, text in store.load().items() if (sample := timings.decode(text)) is not None}
        estimates = timings.Estimates(samples, manifest)
        plan = planner.Planner(planner.atoms(manifest, estimates), chunk_seconds=settings.chunk_seconds)
        maxfail = 1 if settings.failfast else settings.maxfail or 0
        reruns = Reruns.of(settings.reruns, settings.reruns_budget, len(manifest))
        machine = RunMachine(manifest, plan, maxfail=maxfail, reruns=reruns, now=services.clock())
        summary = {"digest": manifest.digest, "count": len(manifest), "environment": collected.loaded.environment}
        services.ledger.publish_manifest(signing.sign(summary, services.key))
        fleet = Fleet(
            services.run, settings.pool, __version__, messages.PROTOCOL_VERSION, signing.key_id(services.key),
            last_usable=services.clock(),
        )  # fmt: skip
        follower = Follower(services, machine, fleet, lambda: self._report(machine, fleet, collected, complete=False))
        self._databases = follower.databases
        services.console.start(len(manifest))
        follower.follow()
        self._watch.seconds.update(follower.seconds)
        return self._finish(machine, fleet, collected, store, samples)

    def _finish(
        self,
        machine: RunMachine,
        fleet: Fleet,
        collected: Collected,
        store: TimingStore,
        samples: dict[str, timings.Sample],
    ) -> int:
        start = self._services.clock()
        ran = [(v.entry, v.seconds) for v in machine.verdicts.values() if v.outcome not in (Outcome.NOT_RUN, Outcome.SKIPPED)]
        learned = timings.learn(ran, machine.class_seconds, samples)
        try:
            store.save({name: timings.encode(sample) for name, sample in learned.items()})
        except InfrastructureError as error:
            self._services.console.warn(f"timings were not saved: {error}")
        self._leave()
        self._watch.note("finish", start)
        self._watch.note("wall", self._watch.started)
        report = self._report(machine, fleet, collected, complete=True)
        settings = self._services.settings
        self._services.write_reports(report)
        self._services.console.finish(report, durations=settings.durations, timing=settings.timing)
        return report.exit_code

    def _report(self, machine: RunMachine, fleet: Fleet, collected: Collected, *, complete: bool) -> RunReport:
        manifest = collected.manifest
        verdicts = tuple(machine.verdicts.get(e.index) or _unfinished(manifest, e.index) for e in manifest)
        facts = {**collected.loaded.facts, "dct": __version__}
        if self._request.seed is not None:
            facts["shuffle_seed"] = str(self._request.seed)
        return RunReport(
            run=self._services.run,
            verdicts=verdicts,
            fixtures=machine.fixture_verdicts(),
            exit_code=machine.exit_code() if complete else 7,
            seconds=dict(self._watch.seconds),
            slots=tuple(
                {"worker": worker, "slot": slot, "busy_seconds": round(use.busy_seconds, 3), "chunks": use.chunks}
                for (worker, slot), use in sorted(machine.slots_used.items())
            ),
            started_at=self._began,
            hosts={worker.name: worker.host for worker in fleet.workers},
            note=machine.stop.reason if machine.stop else "",
            properties=facts,
            complete=complete,
            databases=self._databases.to_dict(),
        )

    def _leave(self) -> None:
        """The run is over for the fleet. Called on every way out; a second call does nothing."""
        if not self._opened:
            return
        self._opened = False
        services = self._services
        steps: tuple[Callable[[], object], ...] = (
            partial(services.registry.withdraw, services.run),
            partial(services.ledger.cancel, "the run is over"),
            services.ledger.close,
            services.queue.purge,
        )
        for step in steps:
            try:
                step()
            except InfrastructureError as error:
                self._services.console.warn(f"the end of the run could not be written: {error}")
                return

    def _project(self) -> str:
        """Name under which timings are kept: the same in every checkout of one project."""
        return f"{Path(self._request.root).name}:{self._request.directory}:{self._request.settings}"


def _unfinished(manifest: Manifest, index: int) -> Verdict:
    return Verdict(manifest[index], Outcome.NOT_RUN, reason="not finished when this report was written")


def _tail(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(log.tell() - 8192, 0))
    return log.read().decode(errors="backslashreplace")
