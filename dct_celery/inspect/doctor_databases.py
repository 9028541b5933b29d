"""What `dct doctor` says about the project, its guards and its database servers.

One `Finding` per thing that a run needs, good or bad, with a fix for what is bad.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dct_celery.core.databases.garbage import KEPT
from dct_celery.core.databases.marks import Found, Mark
from dct_celery.core.databases.names import REGISTRY, clone_name
from dct_celery.core.text import plural
from dct_celery.errors import ConfigError, DctError, InfrastructureError, UsageError
from dct_celery.ports import DatabaseServer
from dct_celery.security import guards
from dct_celery.settings import Settings
from dct_celery.wire import messages

#: Connections of a slot to one server: its test process, its adapter, a thread of a test.
_PER_SLOT = 3
#: Connections of a worker to one server, besides its slots': clone pool, liveness lock, garbage
#: collector.
_PER_WORKER = 4
#: Host names -> their addresses.
Resolve = Callable[[Iterable[str]], Mapping[str, Collection[str]]]
#: Facts about the software of a project or worker, and their titles.
VERSIONS = (("python", "Python"), ("django", "Django"))
#: Clones that are made to measure how long one takes.
_TIMES = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `level`: ok | warning | failed; `fix` is empty where nothing is to be done."""

    level: str
    what: str
    text: str
    fix: str = ""
    #: Exit code of the command if this is the worst failure: 7 if waiting may help, else 4 (I10).
    exit_code: int = UsageError.exit_code


def attempt(what: str, findings: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings; a DctError ends them, as the last one."""
    try:
        yield from findings()
    except DctError as error:
        yield blamed(what, error)


def blamed(what: str, error: DctError) -> Finding:
    """The error as a finding: the part of its message after the last semicolon is the fix."""
    text, _, fix = str(error).rpartition("; ")
    return Finding("failed", what, text or fix, fix if text else "", error.exit_code)


def project(loaded: messages.Loaded, settings: Settings, resolve: Resolve) -> Iterator[Finding]:
    facts = [f"{plural(loaded.count, 'test')} in {loaded.seconds:.1f} s", *versions(loaded.facts)]
    yield Finding("ok", "settings", ", ".join(facts))
    for clause in loaded.not_honoured:
        yield Finding("warning", "settings", clause)
    yield from _guards(loaded, settings, resolve)


def versions(facts: Mapping[str, str]) -> list[str]:
    """Those that are known, with titles: not every backend has a Django."""
    return [f"{title} {facts[name]}" for name, title in VERSIONS if name in facts]


def _guards(loaded: messages.Loaded, settings: Settings, resolve: Resolve) -> Iterator[Finding]:
    configured = [guards.Configured.from_dict(row) for row in loaded.configured]
    try:
        warnings = guards.check(
            configured,
            facts=loaded.facts,
            allow=settings.allow_database,
            deny=settings.deny_database,
            deny_hosts=settings.deny_db_host,
            addresses=resolve(guards.hosts_to_resolve(configured, settings.deny_db_host)),
        )
    except ConfigError as error:
        yield blamed("guards", error)
        return
    for warning in warnings:
        yield Finding("warning", "guards", warning)
    excused = {
        one.alias: why for one, why in guards.excused(configured, allow=settings.allow_database)
    }
    for one in configured:
        if one.alias in excused:
            yield Finding("ok", "guards", f"{_named(one)} {excused[one.alias]}")
    others = [one for one in configured if one.alias not in excused]
    if others or not configured:
        names = ", ".join(map(_named, others)) or "no database is configured"
        yield Finding(
            "ok", "guards", f"nothing {'else ' if excused else ''}looks like production: {names}"
        )


def _named(one: guards.Configured) -> str:
    return f"{one.alias} ({one.name or 'no NAME'})"


# -- database servers ------------------------------------------------------------------


def database(
    alias: str,
    server: DatabaseServer,
    *,
    slots: int,
    workers: int,
    measure: bool,
    clock: Callable[[], float],
    owner: str,
) -> Iterator[Finding]:
    """`slots`, `workers`: those of the pool, 0 if none is connected. `owner`: a unique token.

    Raises DatabaseError where the server stops answering.
    """
    what = f"database {alias}"
    if server.vendor == "sqlite":
        yield Finding(
            "ok", what, "SQLite; every worker makes its own files, so there is no server to check"
        )
        return
    server.check()
    facts = server.facts()
    named = " ".join(
        filter(None, [facts.get("vendor", server.vendor), facts.get("version"), "at", server.where])
    )
    yield Finding("ok", what, f"{named} answers and lets us create and drop databases")
    for line in server.warnings():
        yield Finding("warning", what, line)
    yield _capacity(what, server.capacity(), slots, workers)
    found = server.found(sizes=True)
    yield from _cache(what, found, server)
    if measure:
        yield _measured(what, found, server, clock, owner)


def _capacity(what: str, room: int, slots: int, workers: int) -> Finding:
    wanted = _PER_SLOT * slots + _PER_WORKER * max(workers, 1)
    if slots and room < wanted:
        level = "failed" if room <= slots else "warning"
        text = f"{room} connections are free, {slots} slots may want {wanted}"
        fix = "raise max_connections, end what else is connected, or use fewer slots"
        return Finding(level, what, text, fix, InfrastructureError.exit_code)
    return Finding(
        "ok",
        what,
        f"{room} connections are free" + (f", {slots} slots may want {wanted}" if slots else ""),
    )


def _cache(what: str, found: Sequence[Found], server: DatabaseServer) -> Iterator[Finding]:
    kept = [one for one in found if one.mark is not None and one.mark.kind in KEPT]
    idle = sum(one.mark is not None and one.mark.kind == "idle" for one in kept)
    size = f"{sum(one.bytes for one in kept) / 1e6:.0f} MB"
    yield Finding(
        "ok",
        what,
        f"template cache: {counted(len(kept) - idle, 'template')}, {counted(idle, 'idle clone')},"
        f" {size}",
    )
    if orphans := _orphans(found, server):
        text = f"{counted(len(orphans), 'database')} of runs that are gone: {_some(orphans)}"
        fix = "a worker drops them within a minute of its start; or use `dct gc`"
        yield Finding("warning", what, text, fix)
    if unmarked := [one for one in found if not one.ours and one.name != REGISTRY]:
        count = counted(len(unmarked), "database")
        text = f"{count} named test_… without our mark, left alone: {_some(unmarked)}"
        yield Finding("ok", what, text)


def _orphans(found: Sequence[Found], server: DatabaseServer) -> list[Found]:
    """Databases without a living owner. Checked once, so one that is just being made may count."""
    passing = [
        one for one in found if one.ours and not (one.mark is not None and one.mark.kind in KEPT)
    ]
    owners = {one.mark.owner for one in passing if one.mark is not None and one.mark.owner}
    alive = server.alive(owners) if owners else set()
    dead = [one for one in passing if one.mark is None or one.mark.owner not in alive]
    return [one for one in dead if not server.locked(one.name)]


def _measured(
    what: str,
    found: Iterable[Found],
    server: DatabaseServer,
    clock: Callable[[], float],
    owner: str,
) -> Finding:
    """The time of a clone of the largest template, most likely that of the project's own schema."""
    templates = [one for one in found if one.mark is not None and one.mark.kind == "template"]
    if not templates:
        text = "clone time: there is no template yet to measure with"
        return Finding("warning", what, text, "run some test of it first")
    template = max(templates, key=lambda one: (one.bytes, one.name))
    lock = server.liveness_lock(owner)
    try:
        lock.hold(template.name)
        seconds = [
            _clone_once(template.name, number, server, clock, owner) for number in range(_TIMES)
        ]
    finally:
        lock.close()
    took = f"{statistics.median(seconds) * 1000:.0f} ms"
    size = f"{template.bytes / 1e6:.0f} MB"
    text = f"clone time: {took} for {template.name} of {size}, median of {_TIMES}"
    return Finding("ok", what, text)


def _clone_once(
    template: str, number: int, server: DatabaseServer, clock: Callable[[], float], owner: str
) -> float:
    name = clone_name("doctor", number, owner, "measure", number)
    now = server.now()
    mark = Mark(
        "clone", "doctor", "doctor", owner, template, made=now, used=now, expires=now + 3600
    )
    start = clock()
    server.clone(template, name, mark)
    seconds = clock() - start
    server.drop(name)
    return seconds


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _some(found: Sequence[Found]) -> str:
    names = [one.name for one in found[:3]]
    return ", ".join(names) + (", …" if len(found) > len(names) else "")
