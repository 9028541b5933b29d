"""What a run runs of its suite, where that is not all of it in any number of processes.

The suite stays whole: every process loads all of the selection, since what is imported is part of
what a test depends on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dct_celery.core.model import BAD_OUTCOMES, Entry, Failure, Manifest, Outcome

#: Id of a test, and which one of the tests of that id it is, counted from 0 in canonical order.
Name = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Question:
    """What does the verdict depend on that a test got in an earlier run?"""

    outcome: Outcome
    failures: tuple[Failure, ...] = ()
    #: What ran before it in its process, in this order; None where that is not known.
    past: tuple[Name, ...] | None = None

    @property
    def passed(self) -> bool:
        return self.outcome not in BAD_OUTCOMES


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a suite, by names, so that it holds although the code has changed."""

    #: In canonical order; empty for the whole suite.
    tests: tuple[Name, ...] = ()
    #: All of it runs in one test process, as in the sequential run.
    together: bool = False
    #: The test that it is about, if there is one: without it, the part is not worth running.
    about: Name | None = None
    #: It is a bisection: only probes of that test run.
    question: Question | None = None


#: All of the suite, in any number of processes.
WHOLE = Part()


def names(entries: Sequence[Entry], indices: Iterable[int]) -> tuple[Name, ...]:
    """Names of the entries with these indices. `entries` is the whole suite."""
    counts: defaultdict[str, int] = defaultdict(int)
    numbers: list[int] = []
    for entry in entries:
        numbers.append(counts[entry.id])
        counts[entry.id] += 1
    return tuple((entries[index].id, numbers[index]) for index in indices)


def find(entries: Sequence[Entry], wanted: Sequence[Name]) -> tuple[tuple[int, ...], list[str]]:
    """Indices of the entries with these names, ascending, and the ids that are not there."""
    index_of = {name: index for index, name in enumerate(names(entries, range(len(entries))))}
    found = sorted({index_of[name] for name in wanted if name in index_of})
    return tuple(found), [name[0] for name in wanted if name not in index_of]


def chosen(manifest: Manifest, part: Part) -> Manifest:
    """The suite, of which the part is to run."""
    return manifest.only(find(manifest.entries, part.tests)[0]) if part.tests else manifest
