"""One round: a run is started, its faults strike by progress.

Its results are compared with the oracle.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from tests.chaos import checks, processes, suite
from tests.chaos.faults import FAULTS
from tests.chaos.faults.base import Fault
from tests.chaos.journal import Tail
from tests.chaos.scene import Scene, power_off
from tests.chaos.schedule import Plan, Strike
from tests.chaos.table import Outcome, Struck

#: Seconds between two looks.
_TICK = 0.02
#: A round that takes longer than twice a fault-free one, its faults and this many seconds hangs.
HANG_SLACK = 60.0
#: Characters of a log in a dump.
_LOG = 8000


@dataclass(slots=True)
class _Active:
    """A fault that acts."""

    fault: Fault
    steps: Iterator[float]
    wake: float


@dataclass(slots=True)
class Round:
    """`play` plays it. `usual`: seconds of a fault-free round."""

    scene: Scene
    plan: Plan
    usual: float
    number: int
    #: What a failed round leaves for its reader.
    evidence: str = ""
    _tail: Tail = field(init=False)
    _due: list[tuple[Strike, Fault]] = field(default_factory=list)
    #: Seed of a strike -> when the part of the verdicts that it waits for was there.
    _reached: dict[int, float] = field(default_factory=dict)
    _active: list[_Active] = field(default_factory=list)
    _acted: list[Fault] = field(default_factory=list)
    _problems: list[str] = field(default_factory=list)

    def play(self) -> Outcome:
        """From start to verdict; the workers are there again afterwards."""
        scene, oracle = self.scene, suite.expected(self.plan.labels, self.scene.backend)
        options = ["--test-timeout", f"{suite.HANG_LIMIT:g}"] if self.plan.hangs else []
        for strike in self.plan.strikes:
            worker = scene.workers[strike.worker]
            self._due.append(
                (strike, FAULTS[strike.kind](scene, worker, random.Random(strike.seed)))
            )
        scene.dispatch(
            f"{scene.fleet.name}-{self.number}", self.plan.vendor, self.plan.labels, *options
        )
        self._tail = Tail(scene.journal)
        began = time.monotonic()
        try:
            self._go_on(began, len(oracle.tests))
        finally:
            self._heal()
        seconds = time.monotonic() - began
        self._judge(oracle.to_dict())
        return self._outcome(seconds)

    def _go_on(self, began: float, tests: int) -> None:
        limit = began + 2 * self.usual + HANG_SLACK
        while not self._over():
            now = time.monotonic()
            self._tail.poll()
            self._begin(now, len(self._tail.done) / tests)
            self._act(now)
            # While faults act there is no hang: the limit counts from their end.
            limit = max(limit, now + self.usual + HANG_SLACK) if self._active else limit
            if now > limit:
                self._problems.append(
                    f"the run hangs: {len(self._tail.done)} of {tests} tests after "
                    f"{now - began:.0f} s"
                )
                self._dump()
                return
            time.sleep(_TICK)

    def _over(self) -> bool:
        scene = self.scene
        return scene.dispatcher is None or (
            scene.dispatcher.poll() is not None and not scene.attaching
        )

    def _begin(self, now: float, fraction: float) -> None:
        """Starts what is due and whose part of the scene no other fault has in its hands."""
        busy = {active.fault.resource for active in self._active}
        for strike, fault in list(self._due):
            # Before there is a journal there is no run yet: what breaks then is said at once, and
            # nothing is lost.
            if strike.fraction > fraction or not self.scene.journal.exists():
                continue
            reached = self._reached.setdefault(strike.seed, now)
            if now - reached < strike.delay or fault.resource in busy:
                continue
            busy.add(fault.resource)
            self._due.remove((strike, fault))
            self._acted.append(fault)
            self._active.append(_Active(fault, fault.act(), now))

    def _act(self, now: float) -> None:
        for active in list(self._active):
            if now < active.wake:
                continue
            try:
                active.wake = time.monotonic() + next(active.steps)
            except StopIteration:
                self._active.remove(active)
            except Exception as error:
                self._active.remove(active)
                self._problems.append(
                    f"{active.fault.name} could not be done: {type(error).__name__}: {error}"
                )

    def _heal(self) -> None:
        for active in self._active:
            cast("Generator[float]", active.steps).close()
        self._active.clear()

    # -- afterwards ----------------------------------------------------------------------

    def _judge(self, oracle: dict[str, Any]) -> None:
        scene = self.scene
        code = _end(scene)
        self._tail.poll()
        if code is not None:
            self._problems += checks.report_problems(oracle, code, checks.read_report(scene.report))
            self._problems += checks.junit_problems(oracle, scene.junit)
        self._problems += [f"after the run: {absent}" for absent in scene.await_workers()]
        if self._problems and not self.evidence:
            self._dump()

    def _outcome(self, seconds: float) -> Outcome:
        strikes = [
            Struck(f.name, bool(f.struck), f.recovery(self._tail, self._away(f)), f.clock)
            for f in self._acted
        ]
        strikes += [Struck(fault.name, False, None, fault.clock) for _, fault in self._due]
        reruns = checks.reruns(checks.read_report(self.scene.report))
        return Outcome(
            self.plan.seed,
            seconds,
            tuple(self._problems),
            tuple(strikes),
            reruns,
            self.scene.refused(),
        )

    def _away(self, but: Fault) -> list[tuple[float, float]]:
        """When the other faults kept something away."""
        return [fault.away for fault in self._acted if fault is not but]

    def _dump(self) -> None:
        """Everything that may explain a failure, as it is now."""
        scene = self.scene
        faults = "\n".join(
            f"{f.name} on {f.worker.name}: {_clock(f.struck)} to {_clock(f.healed)}"
            for f in self._acted
        )
        parts = [
            f"{self.plan}",
            f"faults\n{faults}",
            f"dispatcher\n{_last(scene.output.read_text(errors='replace'))}",
        ]
        parts.append(f"dct status\n{_status(scene)}")
        for worker in scene.workers:
            tree = (
                "\n".join(processes.describe(pid) for pid in processes.tree(worker.pid))
                if worker.alive
                else "has ended"
            )
            parts.append(f"{worker.name}\n{tree}\n{_last(worker.log.read_text(errors='replace'))}")
        self.evidence = "\n\n".join(parts)


def _end(scene: Scene) -> int | None:
    """The exit code of the dispatcher; None for one that had to be killed."""
    process = scene.dispatcher
    if process is None:
        return None
    if process.poll() is None:
        power_off(process.pid)
        process.wait()
        scene.fleet.registry.withdraw(scene.run)
        return None
    return process.returncode


def _status(scene: Scene) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dct_celery.cli", "status", scene.run],
            env=scene.environment({}),
            cwd=scene.base,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "no answer within 30 s"
    return done.stdout + done.stderr


def _clock(at: float) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(at))},{int(at % 1 * 1000):03}" if at else "-"


def _last(text: str) -> str:
    return text[-_LOG:]
