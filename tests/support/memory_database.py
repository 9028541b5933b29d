"""Fake of the database port in memory, timed by a clock that moves only when a test moves it.

A database is a list of rows; sequences, schemas and files are left to the real ones. Hand one
`MemoryDatabases` to every `MemoryServer` that is to see the same. Whoever makes one "by another's
hand" (Django's) uses `MemoryDatabases.create`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dct_celery.core.databases.marks import Found, Mark
from dct_celery.core.databases.names import OURS
from dct_celery.errors import CloneFailed, DatabaseError
from dct_celery.ports import DatabaseStats

#: Seconds after which a server ends a liveness lock that is not renewed.
SILENCE = 60
#: What a template of the contract suite holds.
BOOKS = [(1,), (2,), (3,)]


@dataclass
class Database:
    """One database: its rows, and what the server keeps beside it."""

    rows: list[Any] = field(default_factory=list)
    mark: Mark | None = None
    born: bool = False
    sealed: bool = False
    sessions: int = 0


@dataclass
class MemoryDatabases:
    """What one server would hold."""

    time: int = 1_700_000_000
    databases: dict[str, Database] = field(default_factory=dict)
    announced: dict[str, Mark] = field(default_factory=dict)
    locks: set[str] = field(default_factory=set)
    #: LivenessLocks that stand, each with the time of its last renewal.
    liveness: dict[MemoryLivenessLock, int] = field(default_factory=dict)
    #: Names that a statement about them refuses, as a server does while another session uses the
    #: database.
    stubborn: set[str] = field(default_factory=set)
    down: bool = False
    #: Goes up with each restart.
    life: int = 1

    def create(self, name: str, rows: Iterable[Any] = BOOKS) -> Database:
        """A database as a template build makes it: ours from its first moment, with a mark if it
        was announced.
        """
        made = self.databases[name] = Database(
            list(rows), self.announced.pop(name, None), born=True
        )
        return made

    def foreign(self, name: str) -> Database:
        """Somebody else's database, whatever its name."""
        made = self.databases[name] = Database([("precious",)])
        return made

    def put(self, name: str, mark: Mark, *, rows: Iterable[Any] = BOOKS) -> Database:
        """A finished database of ours."""
        made = self.databases[name] = Database(
            list(rows), mark, sealed=mark.kind in ("template", "flushed")
        )
        return made

    @contextlib.contextmanager
    def session(self, name: str) -> Iterator[list[Any]]:
        """Somebody is connected, and may change the rows."""
        self.databases[name].sessions += 1
        try:
            yield self.databases[name].rows
        finally:
            if name in self.databases:
                self.databases[name].sessions -= 1

    def crash(self) -> None:
        """Every process that held a sign or a lock is gone."""
        self.liveness.clear()
        self.locks.clear()


class MemoryLivenessLock:
    """See `ports.LivenessLock`."""

    def __init__(self, world: MemoryDatabases, owner: str) -> None:
        self._world = world
        self.owner = owner
        self.holds: set[str] = set()
        self.renew()

    def hold(self, template: str) -> None:
        self.holds.add(template)
        self.renew()

    def renew(self) -> None:
        _up(self._world)
        self._world.liveness[self] = self._world.time

    def close(self) -> None:
        self._world.liveness.pop(self, None)


class MemoryServer:
    """See `ports.DatabaseServer`."""

    local = False
    vendor = "memory"
    where = "memory:0"

    def __init__(self, world: MemoryDatabases | None = None) -> None:
        self.world = world or MemoryDatabases()
        self.stats = DatabaseStats()
        #: What the port's own methods answer; tests may set them.
        self.said: list[str] = []
        self.room = 100
        self.seen: list[str] = []
        self.closed = False

    def addresses(self) -> Iterator[str]:
        _up(self.world)
        return iter(self.seen)

    def identity(self) -> str:
        return ""

    def check(self) -> None:
        _up(self.world)

    def warnings(self) -> list[str]:
        return list(self.said)

    def facts(self) -> dict[str, str]:
        return {"memory": "1"}

    def capacity(self) -> int:
        return self.room

    def now(self) -> int:
        _up(self.world)
        return self.world.time

    def incarnation(self) -> str:
        _up(self.world)
        return str(self.world.life)

    def place(self, name: str) -> str:
        return name

    # -- marks and liveness locks

    def find(self, name: str) -> Mark | None:
        _up(self.world)
        database = self.world.databases.get(name)
        mark = database.mark if database else None
        return None if mark is None or mark.kind == "building" else mark

    def found(self, *, sizes: bool = False) -> list[Found]:
        _up(self.world)
        return [
            Found(name, one.mark, one.born, 1_000_000 * len(one.rows) if sizes else 0)
            for name, one in sorted(self.world.databases.items())
            if OURS.match(name)
        ]

    def announce(self, name: str, mark: Mark) -> None:
        self._writable(name)
        self.world.announced[name] = mark

    def remark(self, name: str, mark: Mark) -> None:
        self._ours(name).mark = mark

    def liveness_lock(self, owner: str) -> MemoryLivenessLock:
        return MemoryLivenessLock(self.world, owner)

    def alive(self, owners: Iterable[str]) -> set[str]:
        return {sign.owner for sign in self._live_locks()} & set(owners)

    def in_use(self, template: str) -> bool:
        return any(template in sign.holds for sign in self._live_locks())

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        if name in self.world.locks:
            raise AssertionError(f"a real server would wait for ever for the lock of {name}")
        self.world.locks.add(name)
        try:
            yield
        finally:
            self.world.locks.discard(name)

    def locked(self, name: str) -> bool:
        return name in self.world.locks

    # -- templates

    def seal(self, template: str, mark: Mark) -> None:
        database = self._ours(template)
        if database.sessions:
            raise DatabaseError(f"{template} is still in use")
        database.sealed, database.mark = True, mark.but(state=mark.state or self.state(template))

    def state(self, name: str) -> str:
        return hashlib.sha256(repr(self._there(name).rows).encode()).hexdigest()[:32]

    def export(self, name: str, file: Path) -> bool:
        file.write_text(json.dumps(self._there(name).rows))
        return True

    def restore(self, file: Path, name: str, mark: Mark) -> None:
        self._writable(name)
        try:
            rows = [tuple(row) for row in json.loads(file.read_text())]
        except ValueError as error:
            raise DatabaseError(f"{file} cannot be read") from error
        self.world.databases[name] = Database(rows, mark)

    # -- clones

    def clone(self, template: str, name: str, mark: Mark) -> None:
        self._writable(name)
        source = self.world.databases.get(template)
        if source is None or not source.sealed or name in self.world.databases:
            raise CloneFailed(f"{template} could not be cloned as {name}")
        self.world.databases[name] = Database(list(source.rows), mark)
        self.stats.cloned += 1

    def heal(self, name: str, template: str, fresh: str, mark: Mark) -> str:
        self._writable(fresh)
        source, used = self.world.databases.get(template), self._ours(name)
        del self.world.databases[name]
        if source is None or not source.sealed:
            raise CloneFailed(f"{name} could not be healed: {template} is no template")
        self.world.databases[fresh] = Database(list(source.rows), mark, used.born)
        self.stats.healed += 1
        return fresh

    def heals_cheaper(self, template: str) -> bool:
        return False

    def adopt(self, template: str, fresh: str, mark: Mark) -> str | None:
        self._writable(fresh)
        for name, one in list(self.world.databases.items()):
            if one.mark is not None and (one.mark.kind, one.mark.template) == ("idle", template):
                del self.world.databases[name]
                if one.rows == self._there(template).rows:
                    self.world.databases[fresh] = Database(one.rows, mark)
                    self.stats.adopted += 1
                    return fresh
        return None

    def healthy(self, name: str) -> bool:
        return not self.world.down and name in self.world.databases

    def shape(self, name: str) -> str:
        return str(self._there(name).sealed)

    def discard(self, template: str) -> None:
        self.world.announced.pop(template, None)
        self.drop(template)

    def drop(self, name: str) -> None:
        self._writable(name)
        if name in self.world.databases:
            self._ours(name)
            del self.world.databases[name]
            self.stats.dropped += 1

    def close(self) -> None:
        self.closed = True

    # -- parts

    def _live_locks(self) -> list[MemoryLivenessLock]:
        _up(self.world)
        return [
            lock
            for lock, heard in self.world.liveness.items()
            if self.world.time - heard <= SILENCE
        ]

    def _writable(self, name: str) -> None:
        _up(self.world)
        if not OURS.match(name):
            raise DatabaseError(f"{name!r} is not one of our databases; it was not touched")
        if name in self.world.stubborn:
            raise DatabaseError(f"{name} is being accessed by other users")

    def _there(self, name: str) -> Database:
        _up(self.world)
        if name not in self.world.databases:
            raise DatabaseError(f"{name} is not there")
        return self.world.databases[name]

    def _ours(self, name: str) -> Database:
        self._writable(name)
        database = self._there(name)
        if database.mark is None and not database.born:
            raise DatabaseError(f"{name!r} does not carry our mark; it was left alone")
        return database


def _up(world: MemoryDatabases) -> None:
    if world.down:
        raise DatabaseError("the server cannot be reached")
