"""From the manifest to the exit code: plan → publish → follow → finish. A new run and an adopted one go the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dct_celery import __version__
from dct_celery.core import planner, timings
from dct_celery.core.ladder import Deaths
from dct_celery.core.limits import Limits
from dct_celery.core.model import Manifest, Outcome, RunReport, Verdict
from dct_celery.core.reruns import Reruns
from dct_celery.core.run import RunMachine
from dct_celery.dispatcher.collect import Collected
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.follow import Follower
from dct_celery.dispatcher.head import Head, Selection, compress
from dct_celery.dispatcher.journal import Journal, open_journal
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.dispatcher.standing import StandingRun
from dct_celery.errors import InfrastructureError, StoreUnavailable, Superseded
from dct_celery.protocol import PROTOCOL_VERSION


@dataclass(slots=True)
class Stopwatch:
    """Seconds of the parts of a run, by name."""

    services: DispatcherServices
    started: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, since: float) -> None:
        self.seconds[name] = round(self.services.clock() - since, 3)


class Conduct:
    """One run whose manifest is known. `begin` or `go_on` is called, once."""

    def __init__(
        self, services: DispatcherServices, standing: StandingRun, head: Head, collected: Collected, watch: Stopwatch
    ) -> None:
        settings, manifest = services.settings, collected.manifest
        self._services = services
        self._standing = standing
        self._head = head
        self._collected = collected
        self._watch = watch
        self._timings = services.timings(project_name(head.request))
        self._samples = self._known_timings()
        estimates = timings.Estimates(self._samples, manifest)
        limits = Limits(manifest, estimates)
        plan = planner.Planner(planner.atoms(manifest, estimates), chunk_seconds=settings.chunk_seconds, limits=limits)
        maxfail = 1 if settings.failfast else settings.maxfail or 0
        reruns = Reruns.of(settings.reruns, settings.reruns_budget, len(manifest))
        deaths = Deaths(settings.crash_budget)
        self._machine = RunMachine(manifest, plan, maxfail=maxfail, reruns=reruns, deaths=deaths, now=services.clock())
        self._fleet = Fleet(
            services.run, settings.pool, __version__, PROTOCOL_VERSION, services.door.keyring.ids[0],
            last_usable=services.clock(), last_fit=services.clock(),
        )  # fmt: skip
        self._follower = Follower(services, self._machine, self._fleet, standing, lambda: self._report(complete=False))

    def _known_timings(self) -> dict[str, timings.Sample]:
        try:
            known = self._timings.load().items()
        except StoreUnavailable as error:
            self._services.console.warn(f"planned without the timings of earlier runs: {error}")
            return {}
        return {name: sample for name, text in known if (sample := timings.decode(text)) is not None}

    def begin(self) -> int:
        """A new run, to its exit code."""
        self._standing.give(manifest=self._head.manifest)
        self._services.console.start(len(self._collected.manifest))
        return self._follow(self._first_journal)

    def go_on(self, journal: Journal, *, whole: bool) -> int:
        """A run that was adopted: from where its journal and, if `whole`, the store end. Without a whole store it is put back."""
        self._standing.give(manifest=self._head.manifest, head=compress(self._head.text(self._services.door)))
        self._services.console.start(len(self._collected.manifest))
        try:
            self._follower.catch_up(journal, whole=whole)
        except StoreUnavailable:
            # Nothing has ended: the next attach goes on with the run.
            self._standing.hand_over()
            raise
        return self._follow(lambda: journal)

    def _first_journal(self) -> Journal:
        text = self._head.text(self._services.door)
        self._standing.give(head=compress(text))
        return open_journal(self._services.journals, self._services.run, text, self._services.door)

    def _follow(self, journal: Callable[[], Journal]) -> int:
        try:
            self._follower.follow(journal)
        except Superseded:
            self._standing.hand_over()
            raise
        self._watch.seconds.update(self._follower.seconds)
        return self._finish()

    def _finish(self) -> int:
        start = self._services.clock()
        machine = self._machine
        ran = [(v.entry, v.seconds) for v in machine.verdicts.values() if v.outcome not in (Outcome.NOT_RUN, Outcome.SKIPPED)]
        learned = timings.learn(ran, machine.class_seconds, self._samples)
        try:
            self._timings.save({name: timings.encode(sample) for name, sample in learned.items()})
        except InfrastructureError as error:
            self._services.console.warn(f"timings were not saved: {error}")
        self._standing.leave()
        self._watch.note("finish", start)
        self._watch.note("wall", self._watch.started)
        report = self._report(complete=True)
        settings = self._services.settings
        self._services.write_reports(report)
        self._services.console.finish(report, durations=settings.durations, timing=settings.timing)
        return report.exit_code

    def _report(self, *, complete: bool) -> RunReport:
        machine, manifest = self._machine, self._collected.manifest
        verdicts = tuple(machine.verdicts.get(e.index) or _unfinished(manifest, e.index) for e in manifest)
        facts = {**self._collected.loaded.facts, "dct": __version__}
        if self._head.request.seed is not None:
            facts["shuffle_seed"] = str(self._head.request.seed)
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
            started_at=self._head.began,
            hosts={worker.name: worker.host for worker in self._fleet.workers},
            note=machine.stop.reason if machine.stop else "",
            properties=facts,
            complete=complete,
            databases=self._follower.words.databases.to_dict(),
            leaks=tuple(machine.leaks.found),
        )


def project_name(request: Selection) -> str:
    """Name under which timings are kept: the same in every checkout of one project."""
    return f"{Path(request.root).name}:{request.directory}:{request.settings}"


def _unfinished(manifest: Manifest, index: int) -> Verdict:
    return Verdict(manifest[index], Outcome.NOT_RUN, reason="not finished when this report was written")
