"""The collector of one database server: looks at what is there, drops what nobody will miss, and
says why of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

from dct_celery.core.databases import garbage
from dct_celery.core.databases.marks import Found
from dct_celery.errors import DatabaseError
from dct_celery.ports import DatabaseServer

#: Seconds between two looks at which a database must seem dead before it is dropped: a maker may be
#: between two statements, and an owner whose connection broke may be on its way back.
GRACE_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one database."""

    name: str
    #: dropped | left | again (left, and to be looked at again) | failed
    action: str
    reason: str
    bytes: int = 0


@dataclass(slots=True)
class _Look:
    """Everything that one look knows."""

    server: DatabaseServer
    found: list[Found]
    now: int
    alive: set[str]
    locked: set[str]
    templates: set[str]
    in_use: Callable[[str], bool]


@dataclass(slots=True)
class Collector:
    """Remembers what looked dead, so there is one per server and it lives as long as its process.
    Not for two threads at once.
    """

    #: (name, mark) -> when it first looked dead; an equal name under another mark is another
    #: database.
    _dead: dict[tuple[str, str], int] = field(default_factory=dict)

    def collect(
        self,
        server: DatabaseServer,
        *,
        dry_run: bool = False,
        budget: tuple[int, int] | None = None,
    ) -> list[Result]:
        """One look. `budget`: databases and megabytes that are kept for later runs (None: as many
        as there are).

        With `dry_run` nothing is dropped: "dropped" says what would be. A database that refuses to
        go is a result ("failed"); DatabaseError is raised only when the server cannot be asked at
        all.
        """
        look = _look(server, sizes=budget is not None)
        decisions = self._decide(look, budget)
        return [self._settle(look, one, decisions[one.name], dry_run=dry_run) for one in look.found]

    def _decide(self, look: _Look, budget: tuple[int, int] | None) -> dict[str, garbage.Decision]:
        dead_before = self._dead_before(look)
        decisions: dict[str, garbage.Decision] = {}
        # Templates first: an idle clone goes with its own.
        for one in sorted(look.found, key=lambda one: one.name not in look.templates):
            decisions[one.name] = decision = garbage.judge(
                one,
                alive=look.alive,
                in_use=look.in_use,
                locked=look.locked,
                templates=look.templates,
                dead_before=dead_before,
                now=look.now,
            )
            if decision.drop:
                look.templates.discard(one.name)
        if budget is not None:
            left = [one for one in look.found if not decisions[one.name].drop]
            names = garbage.surplus(left, kept=budget[0], megabytes=budget[1], in_use=look.in_use)
            decisions |= dict.fromkeys(
                names, garbage.Decision(True, f"more than {budget[0]} kept, or {budget[1]} MB")
            )
        self._remember(look, decisions)
        return decisions

    def _dead_before(self, look: _Look) -> set[str]:
        seen = {one.name: self._dead.get(_identity(one)) for one in look.found}
        return {
            name
            for name, first in seen.items()
            if first is not None and look.now - first >= GRACE_SECONDS
        }

    def _remember(self, look: _Look, decisions: dict[str, garbage.Decision]) -> None:
        dead = [_identity(one) for one in look.found if decisions[one.name].dead]
        # A clock that was set back must not make anything old.
        self._dead = {key: min(self._dead.get(key, look.now), look.now) for key in dead}

    def _settle(
        self, look: _Look, one: Found, decision: garbage.Decision, *, dry_run: bool
    ) -> Result:
        if not decision.drop:
            return Result(
                one.name, "again" if decision.dead else "left", decision.reason, one.bytes
            )
        if dry_run:
            return Result(one.name, "dropped", decision.reason, one.bytes)
        try:
            changed = _drop(look.server, one)
        except DatabaseError as error:
            return Result(one.name, "failed", str(error), one.bytes)
        return (
            Result(one.name, "left", changed, one.bytes)
            if changed
            else Result(one.name, "dropped", decision.reason, one.bytes)
        )


def _look(server: DatabaseServer, *, sizes: bool) -> _Look:
    found = server.found(sizes=sizes)
    marks = [one.mark for one in found if one.mark is not None]
    owners = {mark.owner for mark in marks if mark.kind in ("building", "clone")} - {""}
    return _Look(
        server=server,
        found=found,
        now=server.now(),
        alive=server.alive(owners) if owners else set(),
        locked={one.name for one in found if _is_unfinished(one) and server.locked(one.name)},
        templates={
            one.name
            for one in found
            if one.mark is not None and one.mark.kind in ("template", "flushed")
        },
        in_use=cache(server.in_use),
    )


def _drop(server: DatabaseServer, one: Found) -> str:
    """Empty when it is dropped; else what has changed since it was looked at, so that it is left."""
    if one.mark is not None and one.mark.kind in ("clone", "idle"):
        if change := _change(server, one):
            return change
        server.drop(one.name)
        return ""
    # Its lock, so that nobody finds a template usable that is just being dropped. Never waited for:
    # a build takes minutes.
    if server.locked(one.name):
        return "is being made"
    with server.lock(one.name):
        if change := _change(server, one):
            return change
        if _is_unfinished(one):
            server.discard(one.name)
        else:
            server.drop(one.name)
    return ""


def _change(server: DatabaseServer, one: Found) -> str:
    """What is not as it was at the look; empty when all is."""
    # Not `find`, which does not see what is half made or half dropped.
    current = next((each for each in server.found() if each.name == one.name), None)
    if current is None:
        return "is gone already"
    if (current.mark, current.born) != (one.mark, one.born):
        return "changed while it was looked at"
    if (
        one.mark is not None
        and one.mark.kind in ("building", "clone")
        and one.mark.owner
        and server.alive([one.mark.owner])
    ):
        return "its owner is back"
    if (
        one.mark is not None
        and one.mark.kind in ("template", "flushed")
        and server.in_use(one.name)
    ):
        return "in use"
    return ""


def _is_unfinished(one: Found) -> bool:
    return one.ours and (one.mark is None or one.mark.kind == "building")


def _identity(one: Found) -> tuple[str, str]:
    return one.name, one.mark.line(one.name) if one.mark is not None else ""


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of the databases of one server; `error` (one line) when it could not be asked."""

    where: str
    results: tuple[Result, ...]
    error: str = ""


def sweep(
    servers: Iterable[DatabaseServer],
    *,
    dry_run: bool,
    budget: tuple[int, int] | None,
    wait: Callable[[int, int], object],
) -> list[Swept]:
    """Collects by hand on each server. What looked dead is looked at again after `wait(databases,
    seconds)`, which sleeps.
    """
    collectors = [(server, Collector()) for server in servers]
    looks = [
        _swept(server, collector, dry_run=dry_run, budget=budget)
        for server, collector in collectors
    ]
    if doubtful := sum(result.action == "again" for look in looks for result in look.results):
        wait(doubtful, GRACE_SECONDS + 1)
        second = [
            _swept(server, collector, dry_run=dry_run, budget=budget)
            for server, collector in collectors
        ]
        looks = [_merged(*pair) for pair in zip(looks, second, strict=True)]
    return looks


def _swept(
    server: DatabaseServer, collector: Collector, *, dry_run: bool, budget: tuple[int, int] | None
) -> Swept:
    where = f"{server.vendor} at {server.where}"
    try:
        return Swept(where, tuple(collector.collect(server, dry_run=dry_run, budget=budget)))
    except DatabaseError as error:
        return Swept(where, (), str(error))


def _merged(first: Swept, second: Swept) -> Swept:
    """The later word about each database; what went at the first look is in that alone."""
    results = {result.name: result for result in (*first.results, *second.results)}
    return Swept(second.where, tuple(results[name] for name in sorted(results)), second.error)
