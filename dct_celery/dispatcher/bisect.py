"""`dct bisect`: what the verdict depends on that a test got in an earlier run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dct_celery.core import part as parts
from dct_celery.core.model import (
    BAD_OUTCOMES,
    FLAKY,
    Bisection,
    Failure,
    Manifest,
    OrderKind,
    Outcome,
    Verdict,
    counted,
)
from dct_celery.core.part import Name, Part, Question
from dct_celery.core.run.doubts import Doubts
from dct_celery.core.run.history import Attempt
from dct_celery.core.run.machine import RunMachine
from dct_celery.core.text import plural
from dct_celery.dispatcher.collect import Collected
from dct_celery.dispatcher.past_run import PastRun
from dct_celery.errors import UsageError

_DIED = Failure("error", "dct.ProcessDied", "the test process died", "the test process died")


def plan_bisection(past: PastRun, test: str) -> tuple[Part, str]:
    """What is to run, and a line that says so. Raises UsageError for a test that did not run."""
    index = past.index(test)
    attempt = past.history.attempt_of(index)
    if attempt is None:
        raise UsageError(f"{past.entries[index].id} did not run in run {past.run}")
    (name,) = parts.names(past.entries, (index,))
    question = _question(past, attempt, index)
    return Part((name,), about=name, question=question), _opening(past, attempt, index)


def _question(past: PastRun, attempt: Attempt, index: int) -> Question:
    names = None
    if attempt.past is not None:
        ran = attempt.process
        names = parts.names(past.entries, ran[: ran.index(index)])
    if index not in attempt.bad:
        return Question(Outcome.PASSED, past=names)
    record = attempt.bad[index]
    if record is None:
        return Question(Outcome.ERROR, (_DIED,), names)
    if record.covered_by is not None:
        text = f"{record.covered_by} failed"
        return Question(Outcome.ERROR, (Failure("error", "", text, text),), names)
    return Question(record.outcome, record.failures, names)


def _opening(past: PastRun, attempt: Attempt, index: int) -> str:
    test = past.entries[index].id
    if index not in attempt.bad:
        return f"{test} passed in run {past.run}; finding out whether it fails in canonical order"
    if attempt.past is None:
        return f"{test} failed in run {past.run}, after what is not known: its slot was lost"
    before = attempt.process[: attempt.process.index(index)]
    own = past.entries[index].unit
    others = [past.entries[one] for one in before if past.entries[one].unit != own]
    if not others:
        return f"{test} failed in run {past.run}, where nothing else ran before it"
    return f"{test} failed in run {past.run} after {counted(others)}"


def ask(doubts: Doubts, suite: Manifest, tests: Sequence[Name], question: Question) -> None:
    """Puts the verdict of the earlier run in doubt. `tests`: the name of the one that got it."""
    (index,), _ = parts.find(suite.entries, tests)
    verdict = Verdict(suite[index], question.outcome, failures=question.failures)
    past = None
    if question.past is not None:
        indices, _ = parts.find(suite.entries, question.past)
        own = doubts.position(index)
        past = tuple(one for one in doubts.positions(indices) if one < own)
    doubts.bisect(verdict, past, passed=question.passed)


def answer(machine: RunMachine, collected: Collected, arguments: Iterable[str]) -> Bisection | None:
    """What the run has found out; None if it is no bisection, or has found out nothing yet.

    `arguments`: of the project's command.
    """
    doubts, suite = machine.doubts, collected.manifest
    if doubts is None or doubts.answer is None:
        return None
    found = doubts.answer
    ((index, verdict),) = machine.verdicts.items()
    before = [suite[doubts.atoms[position].indices[0]] for position in found.shown_after]
    ordered = [word for word in arguments if word == "--reverse" or word.startswith("--shuffle=")]
    return Bisection(
        test=suite[index].id,
        kind=found.kind,
        partner="" if found.partner is None else doubts.name(found.partner),
        proven_by=found.proven_by,
        proven=found.proven,
        fails=verdict.outcome in BAD_OUTCOMES,
        shown_after=tuple(entry.unit for entry in before),
        command=collected.rerun_after(before, suite[index], *(ordered if before else ())),
        probes=doubts.answered,
        seconds=round(doubts.spent, 3),
    )


def explained(found: Bisection, *, changed: bool = False) -> list[str]:
    """What was found out, as lines for people. `changed`: the code is another than in the run."""
    lines = [found.test, f"  {_headline(found, changed=changed)}"]
    if found.shown_after:
        shows = "passes" if found.kind is OrderKind.BRITTLE else "fails"
        lines.append(f"  it {shows} after: {', '.join(found.shown_after)}")
    if found.proven and (found.shown_after or found.fails):
        lines.append(f"  {found.command}")
    if found.proven and found.kind is None and found.fails:
        # In every probe, as in the sequential run, all modules of the selection were imported.
        lines.append("  if this passes, another test module's import is the cause")
    lines.append(f"  {plural(found.probes, 'probe')}, {found.seconds:,.1f} slot-seconds")
    return lines


def _headline(found: Bisection, *, changed: bool) -> str:
    match found.kind:
        case OrderKind.VICTIM:
            fails = "fails" if found.fails else "passes"
            return f"victim of {found.partner}: it {found.proven_by}; in canonical order it {fails}"
        case OrderKind.BRITTLE:
            return f"needs {found.partner} before it: it {found.proven_by}"
        case OrderKind.FLAKY if changed:
            return (
                f"not the same any more: it {found.proven_by}, but the code has changed in between"
            )
        case OrderKind.FLAKY:
            return f"{FLAKY}: it {found.proven_by}"
        case OrderKind.UNPROVEN:
            return f"not settled: it {found.proven_by}"
        case None if found.fails:
            return f"an ordinary failure: it {found.proven_by}"
        case None:
            return f"no failure: it {found.proven_by}"
