"""What earlier runs found out about the order of tests, and how it shapes a plan.

A fact belongs to an atom, by the name of its first class, and expires with the code of the classes
that it is about. It makes the plan give the verdict of the canonical order at once: a brittle class
runs after its state-setter, a victim in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from dct_celery.core.codec import AtMost
from dct_celery.core.model import Entry, Manifest, OrderKind, OrderNote
from dct_celery.core.order import Finding
from dct_celery.core.plan.planner import Atom

_PREFIX = "o:"
#: Most classes that a plan lets run before another one.
MOST_BEFORE = 20
#: Most tests of a class that are listed by name; of more, all are meant.
MOST_TESTS = 100


@dataclass(frozen=True, slots=True)
class OrderFact:
    """What is known of one class."""

    #: Digest of the code of the class, of those in `before`, and of all from `since` to the class.
    code: str
    #: It passed in a process in which nothing ran before it.
    passed_alone: bool = False
    kind: OrderKind | None = None
    #: Classes to run before it, in canonical order; the first is the polluter or state-setter.
    before: Annotated[tuple[str, ...], AtMost(MOST_BEFORE)] = ()
    #: It fails in canonical order (a victim that nothing cleans up for).
    fails: bool = False
    #: Among the classes from this one to the victim, something cleans up for it; else empty.
    since: str = ""
    #: Ids of the tests that it is about; empty for all of the class.
    tests: Annotated[tuple[str, ...], AtMost(MOST_TESTS)] = ()
    proven_by: str = ""
    #: Test id or fixture -> mark of the failure that it has in every order.
    ordinary: Annotated[dict[str, str], AtMost(MOST_TESTS)] = field(default_factory=dict)


def key(cls: str) -> str:
    """Name of the fact in the store."""
    return _PREFIX + cls


def is_key(name: str) -> bool:
    return name.startswith(_PREFIX)


#: Digest of the code of these entries; empty if it is not at hand.
CodeOf = Callable[[Iterable[Entry]], str]


class OrderFacts:
    """The facts that hold for a manifest, by the positions of atoms in canonical order."""

    def __init__(
        self,
        manifest: Manifest,
        atoms: Iterable[Atom],
        known: Mapping[str, OrderFact],
        code_of: CodeOf,
    ) -> None:
        """`known`: class -> fact, of any age."""
        self._manifest = manifest
        self._atoms = tuple(atoms)
        self._code_of = code_of
        self._position = {self._name(number): number for number in range(len(self._atoms))}
        self._facts = {
            self._position[cls]: fact
            for cls, fact in known.items()
            if cls in self._position and self._holds(cls, fact)
        }

    @property
    def passed_alone(self) -> set[int]:
        return {position for position, fact in self._facts.items() if fact.passed_alone}

    def planned(self) -> tuple[Atom, ...]:
        """The atoms, with what has to run before them."""
        return tuple(self._planned(position, atom) for position, atom in enumerate(self._atoms))

    def notes(self) -> dict[int, OrderNote]:
        """Manifest index -> what is known of the test."""
        return {
            index: OrderNote(fact.kind, next(iter(fact.before), ""), fact.proven_by)
            for position, fact in self._facts.items()
            if fact.kind is not None
            for index in self._atoms[position].indices
            if not fact.tests or self._manifest[index].id in fact.tests
        }

    def ordinary(self) -> dict[str, str]:
        """Test id or fixture -> mark of the failure that it has in every order."""
        return {name: mark for fact in self._facts.values() for name, mark in fact.ordinary.items()}

    def learn(
        self,
        passed_alone: Iterable[int],
        findings: Mapping[int, Finding],
        tests: Mapping[int, tuple[str, ...]],
        failed: Iterable[int],
        ordinary: Mapping[int, Mapping[str, str]] | None = None,
    ) -> dict[str, OrderFact]:
        """Class -> what is new of it. All arguments are by position.

        `tests`: ids that a finding is about; `failed`: atoms with a bad verdict; `ordinary`: what
        fails in every order, with the mark of its failure.
        """
        bad = set(failed)
        new: dict[int, OrderFact] = {}
        for position in passed_alone:
            old = self._facts.get(position) or self._blank(position)
            new[position] = replace(old, passed_alone=True)
        for position, finding in findings.items():
            before = self._before(finding)
            if before is None:
                continue
            alone = position in self.passed_alone or position in new
            ids = tests.get(position, ())
            since = _cleaned_since(finding, position)
            new[position] = OrderFact(
                self._code((*before, *range(since, position + 1))),
                alone or finding.kind is OrderKind.VICTIM,
                finding.kind,
                tuple(map(self._name, before)),
                position in bad,
                self._name(since) if since < position else "",
                ids if len(ids) <= MOST_TESTS else (),
                finding.proven_by,
                self._facts[position].ordinary if position in self._facts else {},
            )
        for position, marks in (ordinary or {}).items():
            old = new.get(position) or self._facts.get(position) or self._blank(position)
            both = {**old.ordinary, **marks}
            new[position] = replace(old, ordinary=dict(list(both.items())[-MOST_TESTS:]))
        return {
            self._name(position): fact
            for position, fact in new.items()
            if fact.code and fact != self._facts.get(position)
        }

    def _before(self, finding: Finding) -> tuple[int, ...] | None:
        """The classes that a plan has to know; None if nothing follows for a plan."""
        if not finding.proven or finding.partner is None:
            return None
        before = finding.preamble if finding.kind is OrderKind.BRITTLE else None
        # A victim may have several polluters, which do it only together.
        before = before or finding.shown_after or (finding.partner,)
        return before if len(before) <= MOST_BEFORE else None

    def _planned(self, position: int, atom: Atom) -> Atom:
        fact = self._facts.get(position)
        if fact is None or fact.kind is None:
            return atom
        if fact.kind is OrderKind.VICTIM and not fact.fails:
            return replace(atom, isolated=True)
        return replace(
            atom,
            before=tuple(self._atoms[self._position[cls]].indices[0] for cls in fact.before),
        )

    def _holds(self, cls: str, fact: OrderFact) -> bool:
        """Whether the fact is about the code as it is, and its other classes run here before it."""
        position = self._position[cls]
        before = [self._position.get(other, position) for other in fact.before]
        since = self._position.get(fact.since, position)
        if any(other >= position for other in before) or (fact.since and since >= position):
            return False
        return bool(fact.code) and fact.code == self._code((*before, *range(since, position + 1)))

    def _blank(self, position: int) -> OrderFact:
        return OrderFact(self._code((position,)))

    def _code(self, positions: Iterable[int]) -> str:
        return self._code_of(
            self._manifest[index]
            for position in positions
            for index in self._atoms[position].indices
        )

    def _name(self, position: int) -> str:
        return self._manifest[self._atoms[position].indices[0]].unit


def _cleaned_since(finding: Finding, position: int) -> int:
    """Where the stretch before the victim begins that cleaned up for it; `position` if none did."""
    cleaned = finding.kind is OrderKind.VICTIM and finding.preamble is not None
    ran = set(finding.preamble or ()) if cleaned else set()
    since = position
    while since - 1 in ran:
        since -= 1
    return since
