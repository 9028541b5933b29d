"""The garbage collector of one database server: lists our databases, drops those that are garbage,
and gives the reason for each.

`core.databases.garbage` decides; a database must look dead twice before it goes, and is checked
again under its lock just before the drop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

from dct_celery.core.databases import garbage
from dct_celery.core.databases.marks import Found
from dct_celery.errors import DatabaseError
from dct_celery.ports import DatabaseServer

#: A database must look dead twice, so many seconds apart, before it is dropped: its maker may be
#: between two statements, or its owner may be reconnecting.
GRACE_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one database."""

    name: str
    #: dropped | left | again (left, and to be checked again) | failed
    action: str
    reason: str
    bytes: int = 0


@dataclass(slots=True)
class _Survey:
    """The state of one server at one moment."""

    server: DatabaseServer
    found: list[Found]
    now: int
    alive: set[str]
    locked: set[str]
    templates: set[str]
    in_use: Callable[[str], bool]


@dataclass(slots=True)
class Collector:
    """Remembers what looked dead: one per server, for as long as its process lives. Not
    thread-safe.
    """

    #: (name, mark) -> when it first looked dead; the same name with another mark is another
    #: database.
    _dead: dict[tuple[str, str], int] = field(default_factory=dict)

    def collect(
        self,
        server: DatabaseServer,
        *,
        dry_run: bool = False,
        budget: tuple[int, int] | None = None,
    ) -> list[Result]:
        """One round. `budget`: databases and megabytes that are kept for later runs (None: no
        limit).

        With `dry_run` nothing is dropped, and "dropped" means that it would be. A database that
        cannot be dropped is a result ("failed"); DatabaseError is raised only if the server cannot
        be asked at all.
        """
        survey = _survey(server, sizes=budget is not None)
        decisions = self._decide(survey, budget)
        return [
            self._settle(survey, one, decisions[one.name], dry_run=dry_run) for one in survey.found
        ]

    def _decide(
        self, survey: _Survey, budget: tuple[int, int] | None
    ) -> dict[str, garbage.Decision]:
        dead_before = self._dead_before(survey)
        decisions: dict[str, garbage.Decision] = {}
        # Templates first: an idle clone goes with its own.
        for one in sorted(survey.found, key=lambda one: one.name not in survey.templates):
            decisions[one.name] = decision = garbage.judge(
                one,
                alive=survey.alive,
                in_use=survey.in_use,
                locked=survey.locked,
                templates=survey.templates,
                dead_before=dead_before,
                now=survey.now,
            )
            if decision.drop:
                survey.templates.discard(one.name)
        if budget is not None:
            left = [one for one in survey.found if not decisions[one.name].drop]
            names = garbage.surplus(left, kept=budget[0], megabytes=budget[1], in_use=survey.in_use)
            decisions |= dict.fromkeys(
                names, garbage.Decision(True, f"more than {budget[0]} kept, or {budget[1]} MB")
            )
        self._remember(survey, decisions)
        return decisions

    def _dead_before(self, survey: _Survey) -> set[str]:
        seen = {one.name: self._dead.get(_identity(one)) for one in survey.found}
        return {
            name
            for name, first in seen.items()
            if first is not None and survey.now - first >= GRACE_SECONDS
        }

    def _remember(self, survey: _Survey, decisions: dict[str, garbage.Decision]) -> None:
        dead = [_identity(one) for one in survey.found if decisions[one.name].dead]
        # A clock that was set back must not make a database look old.
        self._dead = {key: min(self._dead.get(key, survey.now), survey.now) for key in dead}

    def _settle(
        self, survey: _Survey, one: Found, decision: garbage.Decision, *, dry_run: bool
    ) -> Result:
        if not decision.drop:
            return Result(
                one.name, "again" if decision.dead else "left", decision.reason, one.bytes
            )
        if dry_run:
            return Result(one.name, "dropped", decision.reason, one.bytes)
        try:
            changed = _drop(survey.server, one)
        except DatabaseError as error:
            return Result(one.name, "failed", str(error), one.bytes)
        return (
            Result(one.name, "left", changed, one.bytes)
            if changed
            else Result(one.name, "dropped", decision.reason, one.bytes)
        )


def _survey(server: DatabaseServer, *, sizes: bool) -> _Survey:
    found = server.found(sizes=sizes)
    marks = [one.mark for one in found if one.mark is not None]
    owners = {mark.owner for mark in marks if mark.kind in ("building", "clone")} - {""}
    return _Survey(
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
    """Drops it, and returns an empty text; or leaves it, and returns what has changed meanwhile."""
    if one.mark is not None and one.mark.kind in ("clone", "idle"):
        if change := _change(server, one):
            return change
        server.drop(one.name)
        return ""
    # Under its lock, so that no run starts to use a template that is being dropped. Never waits for
    # the lock: a build takes minutes.
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
    """What has changed since the survey; empty if nothing has."""
    # Not `find`, which does not see databases that are half made or half dropped.
    current = next((each for each in server.found() if each.name == one.name), None)
    if current is None:
        return "is gone already"
    if (current.mark, current.born) != (one.mark, one.born):
        return "changed in the meantime"
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
    """Collects on each server at a user's request. What looked dead is checked again after
    `wait(databases, seconds)`, which sleeps.
    """
    collectors = [(server, Collector()) for server in servers]

    def collect_all() -> list[Swept]:
        return [
            _swept(server, collector, dry_run=dry_run, budget=budget)
            for server, collector in collectors
        ]

    rounds = collect_all()
    if doubtful := sum(result.action == "again" for one in rounds for result in one.results):
        wait(doubtful, GRACE_SECONDS + 1)
        rounds = [_merged(*pair) for pair in zip(rounds, collect_all(), strict=True)]
    return rounds


def _swept(
    server: DatabaseServer, collector: Collector, *, dry_run: bool, budget: tuple[int, int] | None
) -> Swept:
    where = f"{server.vendor} at {server.where}"
    try:
        return Swept(where, tuple(collector.collect(server, dry_run=dry_run, budget=budget)))
    except DatabaseError as error:
        return Swept(where, (), str(error))


def _merged(first: Swept, second: Swept) -> Swept:
    """The later result of each database; those dropped in the first round appear in that alone."""
    results = {result.name: result for result in (*first.results, *second.results)}
    return Swept(second.where, tuple(results[name] for name in sorted(results)), second.error)
