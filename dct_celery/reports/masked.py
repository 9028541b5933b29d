"""Verdicts as reports show them: without secrets, and without colours that could split one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from dct_celery.core import codec
from dct_celery.core.model import (
    Bisection,
    Failure,
    FixtureRef,
    FixtureVerdict,
    OrderNote,
    RunReport,
    Verdict,
)
from dct_celery.core.run.leaks import Leak
from dct_celery.core.text import strip_ansi
from dct_celery.security.masking import Masker

#: Tests whose ids are searched for secrets at a time. One search in a long text costs far less than
#: one in each of its lines.
_BLOCK = 1000
#: Keys of pytest's reports that hold a test's id or parts of it.
_NAMES = frozenset({"nodeid", "location", "keywords"})


def report(whole: RunReport, mask: Masker) -> RunReport:
    return replace(
        whole,
        verdicts=tuple(_verdicts(whole.verdicts, mask)),
        fixtures=tuple(fixture(one, mask) for one in whole.fixtures),
        note=_text(whole.note, mask),
        error=_text(whole.error, mask),
        properties={name: _output(str(value), mask) for name, value in whole.properties.items()},
        leaks=tuple(_leak(leak, mask) for leak in whole.leaks),
        bisection=None if whole.bisection is None else _bisection(whole.bisection, mask),
        fixture_metrics=tuple(
            replace(one, name=_name(one.name, mask)) for one in whole.fixture_metrics
        ),
        near_limits=tuple(replace(one, name=_name(one.name, mask)) for one in whole.near_limits),
    )


def _bisection(found: Bisection, mask: Masker) -> Bisection:
    return replace(
        found,
        test=_name(found.test, mask),
        partner=_name(found.partner, mask),
        shown_after=tuple(_name(cls, mask) for cls in found.shown_after),
        command=_text(found.command, mask),
    )


def _verdicts(verdicts: Sequence[Verdict], mask: Masker) -> Iterator[Verdict]:
    for start in range(0, len(verdicts), _BLOCK):
        block = verdicts[start : start + _BLOCK]
        masked = _texts if _clean((v.entry.id for v in block), mask) else verdict
        yield from (masked(v, mask) for v in block)


def _clean(names: Iterable[str], mask: Masker) -> bool:
    """Whether masking leaves all of them as they are; False where it may change one.

    What masking finds in a line, it also finds in a text that has this line.
    """
    text = "\n".join(names)
    return strip_ansi(text) == text == mask.name(text)


def verdict(v: Verdict, mask: Masker) -> Verdict:
    # An id changes only where it holds a secret: other tools search for it.
    if (name := _name(v.entry.id, mask)) != v.entry.id:
        v = replace(v, entry=replace(v.entry, id=name, cls=_name(v.entry.cls, mask)))
    return _texts(v, mask)


def _texts(v: Verdict, mask: Masker) -> Verdict:
    """The verdict with everything but its id masked."""
    if not (v.failures or v.output or v.sql or v.earlier or v.covered_by or v.order or v.reports):
        reason = _text(v.reason, mask)
        # Of most verdicts, nothing changes.
        return v if reason == v.reason else replace(v, reason=reason)
    return replace(
        v,
        failures=_failures(v.failures, mask),
        reason=_text(v.reason, mask),
        output=_output(v.output, mask),
        sql=_output(v.sql, mask),
        covered_by=_fixture(v.covered_by, mask) if v.covered_by else None,
        earlier=tuple(verdict(one, mask) for one in v.earlier),
        order=_order(v.order, mask),
        reports=_reports(v.reports, mask),
    )


def fixture(f: FixtureVerdict, mask: Masker) -> FixtureVerdict:
    return replace(
        f,
        fixture=_fixture(f.fixture, mask),
        failures=_failures(f.failures, mask),
        reason=_text(f.reason, mask),
        output=_output(f.output, mask),
        order=_order(f.order, mask),
    )


def _order(note: OrderNote | None, mask: Masker) -> OrderNote | None:
    if note is None:
        return None
    return replace(
        note, partner=_name(note.partner, mask), failed_with=_text(note.failed_with, mask)
    )


def _fixture(ref: FixtureRef, mask: Masker) -> FixtureRef:
    return replace(ref, name=_name(ref.name, mask))


def _failures(failures: tuple[Failure, ...], mask: Masker) -> tuple[Failure, ...]:
    return tuple(
        replace(
            f,
            message=_text(f.message, mask),
            text=_text(f.text, mask),
            subtest=_text(f.subtest, mask),
        )
        for f in failures
    )


def _name(text: str, mask: Masker) -> str:
    """Colours stay, unless they split a secret."""
    plain = strip_ansi(text)
    return mask.name(text) if mask.name(plain) == plain else mask.name(plain)


def _leak(leak: Leak, mask: Masker) -> Leak:
    return replace(leak, what=_text(leak.what, mask))


def _reports(text: str, mask: Masker) -> str:
    """JSON, in which quotes and backslashes of a secret may be escaped. What is none is left out:
    nobody could read it.
    """

    def clean(value: Any, masked: Callable[[str], str] = mask.output) -> Any:
        match value:
            case str():
                return masked(value)
            case list():
                return [clean(one, masked) for one in value]
            case dict():
                return {
                    key: clean(one, mask.name if key in _NAMES else masked)
                    for key, one in value.items()
                }
            case _:
                return value

    if not text:
        return text
    try:
        return codec.dumps(clean(codec.loads(text)))
    except codec.Malformed:
        return ""


def _text(text: str, mask: Masker) -> str:
    return mask(strip_ansi(text)) if text else text


def _output(text: str, mask: Masker) -> str:
    return mask.output(strip_ansi(text))
