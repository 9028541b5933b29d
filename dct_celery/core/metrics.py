"""What tests, fixtures and workers have used: queries, time in the database, memory, output.

A test process sends whole numbers in a fixed order, as text (`packed`): "3,,1,412" are three
queries, no reads, one write, 412 microseconds. What is zero is left out, so that the text is short
for most tests and empty for many. It stays text until somebody asks for it (`TestMetrics.of`): a
dispatcher takes many thousands of them each second, and reads them once, in its reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Self

from dct_celery.core.codec import Matches, Seconds

#: Text of `packed`; empty for nothing. Its numbers are as JSON writes them.
MEASURED = r"(?:-?[1-9][0-9]{0,14})?(?:,(?:-?[1-9][0-9]{0,14})?){0,10}"
Measured = Annotated[str, Matches(MEASURED)]

_MICRO, _KIB = 1_000_000, 1024


@dataclass(frozen=True, slots=True)
class TestMetrics:
    """What one test or fixture has used. What it cannot know is 0, like what was not used."""

    __test__ = False

    #: Statements that Django has sent: what CaptureQueriesContext counts around it. Those that open
    #: and close transactions are among them: an empty test of a TestCase has some.
    queries: int = 0
    #: Those that read rows (SELECT and the like), and those that change rows or tables.
    reads: int = 0
    writes: int = 0
    #: Seconds that Django waited for these statements, execute wrappers included.
    db_seconds: float = 0.0
    #: Rows that they returned or changed, as far as the driver tells: SQLite's does not of reads.
    rows: int = 0
    #: Bytes by which the resident memory of the process grew; negative where it shrank.
    rss_growth: int = 0
    #: Most resident bytes of the process so far, where this raised it; else 0.
    rss_peak: int = 0
    #: Bytes that it printed.
    output_bytes: int = 0
    #: Statements that failed.
    errors: int = 0
    #: Connections that could not be opened, and statements whose connection broke.
    connection_errors: int = 0
    #: Connections that were opened.
    connections: int = 0

    @classmethod
    def of(cls, text: str) -> Self:
        """Inverse of `packed`."""
        if not text:
            return cls()
        numbers = [int(part) if part else 0 for part in text.split(",")]
        numbers += [0] * (len(_NAMES) - len(numbers))
        queries, reads, writes, micros, rows, growth, peak, *others = numbers
        return cls(
            queries, reads, writes, micros / _MICRO, rows, growth * _KIB, peak * _KIB, *others
        )

    def packed(self) -> str:
        """As text, see above."""
        values = {name: getattr(self, name) for name in _NAMES}
        values["db_seconds"] = round(self.db_seconds * _MICRO)
        values["rss_growth"] //= _KIB
        values["rss_peak"] //= _KIB
        return packed(list(values.values()))

    def used(self) -> dict[str, int | float]:
        """What is not zero, by name."""
        values = ((name, getattr(self, name)) for name in _NAMES)
        return {name: value for name, value in values if value}


_NAMES = tuple(field.name for field in fields(TestMetrics))
_PEAK = _NAMES.index("rss_peak")


def packed(numbers: Sequence[int]) -> str:
    """The fields of `TestMetrics` in their order, as text: microseconds, and KiB of memory."""
    if not any(numbers):
        return ""
    return ",".join([str(number) if number else "" for number in numbers]).rstrip(",")


def named(text: str) -> list[tuple[str, str]]:
    """What is not zero in such a text, by the names of `TestMetrics`, each as JSON writes it."""
    found = zip(_SHOWN, text.split(","), strict=False)
    return [(name, part if show is None else show(part)) for (name, show), part in found if part]


def _of_micros(part: str) -> str:
    return repr(int(part) / _MICRO)


def _of_kib(part: str) -> str:
    return str(int(part) * _KIB)


_CONVERTED = {"db_seconds": _of_micros, "rss_growth": _of_kib, "rss_peak": _of_kib}
#: Names, and how the text of each number is shown; None: as it is.
_SHOWN = [(name, _CONVERTED.get(name)) for name in _NAMES]


def total(texts: Iterable[str]) -> TestMetrics:
    """All such texts together; of the peaks, the highest."""
    sums, peak = [0] * len(_NAMES), 0
    for text in texts:
        for place, part in enumerate(text.split(",")):
            if part:
                sums[place] += int(part)
                if place == _PEAK:
                    peak = max(peak, int(part))
    sums[_PEAK] = peak
    return TestMetrics.of(packed(sums))


#: What a fixture took in one process, as the process sends it: its name ("setUpClass (app.T)", or
#: that of a fixture of pytest with where it is defined), seconds, and what it used. A row, as there
#: are two or more for each class.
FixtureUse = tuple[str, Seconds, Measured]


@dataclass(frozen=True, slots=True)
class FixtureMetrics:
    """What a fixture of a class, module or session took on one worker."""

    name: str
    worker: str
    #: How often it ran.
    times: int
    seconds: float
    metrics: TestMetrics


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """What one worker did in a run."""

    worker: str
    slots: int
    chunks: int
    #: Seconds that its slots were busy, together.
    busy_seconds: float
    #: Tests that have their verdict from it, and how many of them failed or were skipped.
    tests: int = 0
    failed: int = 0
    skipped: int = 0
    #: Seconds of these tests, together.
    test_seconds: float = 0.0
    #: What they and their fixtures have used.
    metrics: TestMetrics = TestMetrics()
