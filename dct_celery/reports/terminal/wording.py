"""How the terminal writes outcomes, tests, numbers and durations. Text in, text out."""

from __future__ import annotations

from dct_celery.core.model import FixtureVerdict, Outcome, Verdict
from dct_celery.core.text import one_line, plural

#: Headings of what makes a run red, as unittest prints them.
HEADINGS = {Outcome.FAILED: "FAIL", Outcome.ERROR: "ERROR", Outcome.XPASSED: "UNEXPECTED SUCCESS"}
_RESULTS = {
    Outcome.PASSED: "ok",
    Outcome.SKIPPED: "skipped",
    Outcome.XFAILED: "expected failure",
    Outcome.XPASSED: "unexpected success",
    Outcome.NOT_RUN: "not run",
    **{outcome: HEADINGS[outcome] for outcome in (Outcome.FAILED, Outcome.ERROR)},
}


def result(outcome: Outcome, reason: str) -> str:
    """What `-v 2` says after the dots: `ok`, `FAIL`, `skipped 'why'`, `not run (why)`."""
    if outcome is Outcome.SKIPPED:
        return f"skipped {one_line(reason)!r}"
    if outcome is Outcome.NOT_RUN and reason:
        return f"not run ({one_line(reason)})"
    return _RESULTS[outcome]


def full_name(v: Verdict) -> str:
    """`test_x (app.tests.T.test_x)`, as unittest writes it since Python 3.11."""
    return f"{one_line(_method(v))} ({one_line(v.entry.id)})"


def short_name(v: Verdict) -> str:
    """`T.test_x`: the last of the class and what comes after it."""
    return one_line(f"{v.entry.cls.rpartition('.')[2]}.{_method(v)}")


def _method(v: Verdict) -> str:
    name = v.entry.name
    return name.rpartition(".")[2] if name == v.entry.id else name


def where(v: Verdict | FixtureVerdict) -> str:
    """`build-a/0`, or nothing where no worker had it."""
    if v.worker is None:
        return ""
    return one_line(v.worker if v.slot is None else f"{v.worker}/{v.slot}")


def reruns(v: Verdict) -> str:
    """`2 reruns`, or nothing where its first failure was its last."""
    return plural(len(v.earlier), "rerun") if v.earlier else ""


def rate(tests_per_second: float) -> str:
    """`38` or, where it matters, `3.8`."""
    return f"{tests_per_second:,.1f}" if tests_per_second < 9.95 else f"{tests_per_second:,.0f}"


def duration(seconds: float) -> str:
    """`40 s`, `3 min 05 s`, `1 h 02 min`: whole and never nothing, for what is still to come."""
    whole = max(1, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02} min"
