"""`dct warm`: workers prepare a tree as for a run, and nothing runs.

They fetch the code, load the project, build the templates that it lacks and make first clones. What
of that outlives the run serves the next ones: code, bytecode, templates, and clean clones where
those are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dct_celery.core.text import plural
from dct_celery.dispatcher.event_loop import EventLoop
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.errors import InfrastructureError, Interrupted, ProjectError, UsageError
from dct_celery.protocol.workers import RunStage, WorkerInfo
from dct_celery.wire import messages

#: Seconds for first clones, once every worker is ready.
_CLONES = 15.0


@dataclass(frozen=True, slots=True)
class Warmed:
    """What came of it."""

    #: Ready worker -> where its templates came from, and the seconds of each step.
    workers: Mapping[str, Mapping[str, Any]]
    #: Worker -> why it has refused.
    refused: Mapping[str, str]
    clones: int
    #: What building the templates took, if one of them has done it.
    build_seconds: float

    def lines(self) -> Iterator[str]:
        """One; each worker was named when it reported."""
        saves = ""
        if self.build_seconds:
            saves = f"; the next run saves the {self.build_seconds:,.1f} s that templates took"
        clones = f", {plural(self.clones, 'clone')} made" if self.clones else ""
        clones += f", {plural(len(self.refused), 'worker')} refused" if self.refused else ""
        yield f"{plural(len(self.workers), 'worker')} warm{clones}{saves}"


def wait(
    services: DispatcherServices, loop: EventLoop, fleet: Fleet, loaded: messages.Loaded
) -> Warmed:
    """Returns when a worker is ready, and every other one is, too, or has refused.

    Raises InfrastructureError, UsageError or ProjectError if none becomes ready, Interrupted.
    """
    # If all refuse, the loop stops, with the exit code that their reasons call for.
    while not (ready := _ready(services.run, fleet)):
        _step(services, loop)
    wanted = sum(min(worker.slots, loaded.count) for worker in ready) * len(loaded.databases)
    deadline = services.clock() + _CLONES
    use = loop.worker_reports.databases
    while use.sums.get("cloned", 0) + use.sums.get("adopted", 0) < wanted:
        if services.clock() > deadline:
            break
        _step(services, loop)
    refused = {name: report.message for name, report in fleet.refusals.items()}
    clones = int(use.sums.get("cloned", 0) + use.sums.get("healed", 0))
    return Warmed(dict(use.workers), refused, clones, use.build_seconds)


def _ready(run: str, fleet: Fleet) -> list[WorkerInfo]:
    """All that can take part, once each of them is ready; else none."""
    usable = fleet.usable
    return usable if all(one.runs.get(run) is RunStage.READY for one in usable) else []


def _step(services: DispatcherServices, loop: EventLoop) -> None:
    if services.interrupted():
        raise Interrupted("interrupted while workers prepared; what is built stays")
    loop.step()
    if (stop := loop.stopped) is None:
        return
    kind = {1: ProjectError, 4: UsageError}.get(stop.exit_code, InfrastructureError)
    raise kind(stop.reason)
