"""Rounds on one scene, one after the other: what they found, and what they still owe."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.chaos import checks, table
from tests.chaos.faults import FAULTS, PENDING
from tests.chaos.rounds import Round
from tests.chaos.scene import NAMES, Scene
from tests.chaos.schedule import Kind, Plan, broker_of, plan

#: Seconds of a lease: short, as much of a round is waiting for one.
LEASE = 4.0
_FULL = ("green", "red")


@dataclass(slots=True)
class Session:
    """Rounds on one scene."""

    scene: Scene
    #: By broker.
    kinds: Mapping[str, Sequence[Kind]]
    #: How a round is played again; takes `--replay SEED`.
    again: str
    #: Folder for what failed rounds leave.
    evidence: Path
    #: redis | rabbitmq | mixed
    broker: str = "redis"
    #: Seconds of a fault-free round.
    usual: float = 0.0
    outcomes: list[table.Outcome] = field(default_factory=list)
    debts: checks.Debts = field(default_factory=checks.Debts)
    _number: int = 0

    def warm_up(self) -> None:
        """Two fault-free rounds on each server: templates, timings, the oracle's proof.

        RuntimeError if one fails.
        """
        for vendor in self.scene.databases:
            for labels in ((*_FULL, "torture.test_dying"), _FULL):
                outcome = self._play(Plan(0, vendor, labels, ()))
                if outcome.problems:
                    raise RuntimeError(
                        f"the fault-free round failed: {outcome.problems}; see {self.evidence}"
                    )
            self.usual = max(self.usual, outcome.seconds)

    def play(self, seed: int) -> table.Outcome:
        """One round, with everything that is found wrong printed."""
        broker = broker_of(seed, self.broker)
        chosen = plan(seed, self.kinds[broker], workers=len(NAMES), broker=broker)
        if chosen.vendor not in self.scene.databases:
            chosen = replace(chosen, vendor=next(iter(self.scene.databases)))
        outcome = self._play(chosen)
        self.outcomes.append(outcome)
        print(_line(chosen, outcome), flush=True)
        self._complain(seed, outcome.problems)
        return outcome

    def _play(self, chosen: Plan) -> table.Outcome:
        self._number += 1
        self.scene.use(chosen.broker)
        one = Round(self.scene, chosen, self.usual or 60.0, self._number)
        outcome = one.play()
        if outcome.problems:
            self.evidence.mkdir(parents=True, exist_ok=True)
            (self.evidence / f"{chosen.seed}.txt").write_text(
                "\n".join(outcome.problems) + f"\n\n{one.evidence}"
            )
            if self.scene.journal.exists():
                shutil.copy(self.scene.journal, self.evidence / f"{chosen.seed}.jsonl")
            self.scene.revive()
        self._note_leftovers(chosen.seed)
        return outcome

    def _note_leftovers(self, seed: int) -> None:
        """What this round left is owed; what is owed for too long is its round's failure."""
        left = self.scene.leftovers()
        self.debts.settle(left)
        self.debts.incur(left, seed, time.monotonic())
        self._dun()

    def settle(self) -> None:
        """Waits until nothing is left of any round, or its time is over."""
        while self.debts.open:
            time.sleep(0.5)
            self.debts.settle(self.scene.leftovers())
            self._dun()

    def _dun(self) -> None:
        for seed, what in self.debts.overdue(time.monotonic()):
            self.outcomes.append(table.Outcome(seed, 0.0, (what,), ()))
            self._complain(seed, [what])

    def _complain(self, seed: int, problems: Sequence[str]) -> None:
        for problem in problems:
            print(f"    {problem}")
        if problems:
            print(
                f"    again: {self.again} --replay {seed}    evidence: "
                f"{self.evidence / f'{seed}.txt'}",
                flush=True,
            )

    @property
    def failed(self) -> list[int]:
        return sorted({outcome.seed for outcome in self.outcomes if outcome.problems})


def choose(names: Sequence[str], *, remote: bool, broker: str = "redis") -> list[Kind]:
    """The kinds of these names that can strike with this broker.

    Without names all that are survived. SystemExit for a name that is none.
    """
    if unknown := set(names) - set(FAULTS):
        raise SystemExit(
            f"no kind of fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}"
        )
    wanted = names or [name for name in FAULTS if name not in PENDING]
    fit = [FAULTS[name] for name in wanted if FAULTS[name].broker in ("", broker)]
    return [fault.kind() for fault in fit if remote or not fault.remote]


def _line(chosen: Plan, outcome: table.Outcome) -> str:
    left = list(outcome.strikes)
    strikes = []
    for strike in chosen.strikes:
        struck = next(one for one in left if one.kind == strike.kind)
        left.remove(struck)
        how = (
            " (missed)"
            if not struck.hit
            else ""
            if struck.recovery is None
            else f" [{struck.recovery:.1f} s]"
        )
        strikes.append(f"{strike}/{NAMES[strike.worker][-1]}{how}")
    parts = "".join(label[:1] for label in chosen.labels)
    where = f"{chosen.broker[:2]} {chosen.vendor[:2]} {parts:4}"
    head = (
        f"seed {chosen.seed} {where} {outcome.seconds:5.1f} s "
        f"{'FAILED' if outcome.problems else 'ok':6}"
    )
    return f"{head} {outcome.reruns:3} re-runs {outcome.refused:2} refused  {'  '.join(strikes)}"
