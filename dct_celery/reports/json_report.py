"""The JSON report, version 1 (docs/json.md): one object of plain values, as strict JSON takes."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any

from dct_celery.core.metrics import FixtureMetrics, WorkerMetrics, named
from dct_celery.core.model import FixtureVerdict, OrderKind, OrderNote, RunReport, Verdict
from dct_celery.core.run.uses import worker_metrics
from dct_celery.core.text import cut, strip_ansi
from dct_celery.reports.artifacts import relative_path

#: Goes up when a key is renamed, removed or changes its meaning; not when one is added.
VERSION = 1
PARTS = ("collect", "snapshot", "wait", "run", "finish", "wall")
#: Characters of a message.
MESSAGE_LIMIT = 1024
#: Texts that are remembered while a report is written.
_REMEMBERED = 256
_json = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


def render(report: RunReport) -> str:
    """The object as JSON in ASCII: escapes carry the rest.

    The tests are put together from strings, since most of them passed and have nothing to say.
    """
    tests = ", ".join(map(_Tests().text, report.verdicts))
    return f'{_json(_head(report))[:-1]}, "tests": [{tests}], {_json(_tail(report))[1:]}'


def to_dict(report: RunReport) -> dict[str, Any]:
    """The report as str, int, float, bool, None, list and dict; floats are finite, strings may hold
    lone surrogates.
    """
    tests = [_test(verdict) for verdict in report.verdicts]
    return {**_head(report), "tests": tests, **_tail(report)}


def _head(report: RunReport) -> dict[str, Any]:
    return {
        "version": VERSION,
        "run": report.run,
        "exit_code": report.exit_code,
        "complete": report.complete,
        "note": report.note,
        "error": report.error,
        "totals": report.totals(),
        "seconds": {part: _seconds(report.seconds.get(part, 0.0)) for part in PARTS},
        "databases": report.databases,
        "slots": [_slot(slot) for slot in report.slots],
    }


def _tail(report: RunReport) -> dict[str, Any]:
    return {
        "fixtures": [_fixture(fixture) for fixture in report.fixtures],
        "leaks": [asdict(leak) for leak in report.leaks],
        "near_limits": [asdict(near) for near in report.near_limits],
        "fixture_metrics": [_flat(one) for one in report.fixture_metrics],
        "worker_metrics": [_flat(one) for one in worker_metrics(report)],
        **({} if report.bisection is None else {"bisection": asdict(report.bisection)}),
    }


class _Tests:
    """Writes tests as JSON. What many of them share is written once."""

    def __init__(self) -> None:
        self._where = lru_cache(_REMEMBERED)(_where)
        self._file = lru_cache(_REMEMBERED)(_json)
        self._message = lru_cache(_REMEMBERED)(lambda message: _json(_line(message)))

    def text(self, verdict: Verdict) -> str:
        """What `_test` describes."""
        special = verdict.failures or verdict.earlier or verdict.covered_by or verdict.order
        if special or verdict.artifacts:
            return _json(_test(verdict))
        file, line = verdict.place
        return (
            f'{{"id": {_json(verdict.entry.id)}, "outcome": {_json(verdict.outcome)},'
            f' "seconds": {_seconds(verdict.seconds)!r},'
            f" {self._where(verdict.worker, verdict.slot, verdict.attempt)},"
            f' "file": {self._file(file)}, "line": {"null" if line is None else line},'
            f' "covered_by": null, "message": {self._message(verdict.reason)}, "flaky": false,'
            f' "order": null, "artifacts": [], "attempts": [],'
            f' "metrics": {_used(verdict.measured)}}}'
        )


def _used(measured: str) -> str:
    """The object `metrics` of a test, as text: what is not zero."""
    return "{" + ", ".join([f'"{name}": {value}' for name, value in named(measured)]) + "}"


def _flat(one: FixtureMetrics | WorkerMetrics) -> dict[str, Any]:
    """With what was used among the other keys, as far as it is not zero."""
    values = {each.name: getattr(one, each.name) for each in fields(one) if each.name != "metrics"}
    seconds = {name: _seconds(values[name]) for name in values if name.endswith("seconds")}
    return {**values, **seconds, **one.metrics.used()}


def _where(worker: str | None, slot: int | None, attempt: int) -> str:
    return _json({"worker": worker, "slot": slot, "attempt": attempt})[1:-1]


def _slot(slot: dict[str, Any]) -> dict[str, Any]:
    return {
        "worker": slot.get("worker"),
        "slot": slot.get("slot"),
        "busy_seconds": _seconds(slot.get("busy_seconds", 0.0)),
        "chunks": slot.get("chunks", 0),
    }


def _test(verdict: Verdict) -> dict[str, Any]:
    return {
        "id": verdict.entry.id,
        "outcome": verdict.outcome.value,
        "seconds": _seconds(verdict.seconds),
        "worker": verdict.worker,
        "slot": verdict.slot,
        "attempt": verdict.attempt,
        "file": verdict.place[0],
        "line": verdict.place[1],
        "covered_by": str(verdict.covered_by) if verdict.covered_by else None,
        "message": _line(verdict.message),
        "flaky": verdict.flaky,
        "order": _order(verdict.order),
        "artifacts": [
            {"path": relative_path(verdict.entry, one), "size": one.size}
            for one in verdict.artifacts
        ],
        "attempts": [_attempt(earlier) for earlier in verdict.earlier],
        "metrics": verdict.metrics.used(),
    }


def _attempt(verdict: Verdict) -> dict[str, Any]:
    """A failure that was followed by a rerun."""
    return {
        "outcome": verdict.outcome.value,
        "seconds": _seconds(verdict.seconds),
        "worker": verdict.worker,
        "slot": verdict.slot,
        "message": _line(verdict.message),
    }


def _fixture(fixture: FixtureVerdict) -> dict[str, Any]:
    return {
        "id": fixture.id,
        "phase": fixture.phase,
        "outcome": fixture.outcome.value,
        "worker": fixture.worker,
        "order": _order(fixture.order),
    }


def _order(note: OrderNote | None) -> dict[str, Any] | None:
    if note is None:
        return None
    partner = "needs" if note.kind is OrderKind.BRITTLE else "of"
    return {
        "kind": note.kind.value,
        **({partner: note.partner} if note.partner else {}),
        "proven": note.proven,
        "proven_by": note.proven_by,
        "failed_with": note.failed_with,
    }


def _line(message: str) -> str:
    """One line without colours."""
    lines = strip_ansi(message).strip().splitlines()
    return cut(lines[0], MESSAGE_LIMIT) if lines else ""


def _seconds(value: float) -> float:
    """Rounded to microseconds; NaN, infinity and negative values become 0."""
    return round(value, 6) if 0 <= value < 1e9 else 0.0
