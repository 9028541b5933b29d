"""MySQL and MariaDB: clones made by replaying SHOW CREATE, with rows by INSERT … SELECT.

One code path serves both; they differ in what they report (sequences, variables) and in what is
slow. No pipes and no dump programs are used. A template can still be read: only its mark seals it.
Both servers serialise DDL, so clones are made one at a time, and each is handed out when it is
ready.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from dct_celery.adapters.databases.costs import Costs
from dct_celery.adapters.databases.mysql import connection as my
from dct_celery.adapters.databases.mysql import export, facts, heal
from dct_celery.adapters.databases.mysql.inventory import read_inventory
from dct_celery.adapters.databases.mysql.marks import (
    Marks,
    MysqlLiveness,
    drop_database,
    end_sessions,
    held,
    lock_name,
    ours,
    turn,
)
from dct_celery.adapters.databases.mysql.plan import Plan, read_plan, replay, verify
from dct_celery.core.databases.marks import Found, Mark
from dct_celery.core.databases.server_identity import IDENTITY
from dct_celery.errors import CloneFailed, DatabaseError
from dct_celery.ports import DatabasePolicy, DatabaseSpec, DatabaseStats, LivenessLock

#: Kinds of databases that can be cloned.
_SEALED = ("template", "flushed")


class MysqlServer:
    """One server, over one connection, opened when first needed."""

    local = False
    vendor = "mysql"

    def __init__(self, spec: DatabaseSpec, policy: DatabasePolicy | None = None) -> None:
        self._spec = spec
        self._policy = policy or DatabasePolicy()
        self.stats = DatabaseStats()
        self.where = my.where(spec)
        self._link = my.Link(spec, self.stats, self._policy)
        self._marks = Marks(self._link)
        self._plans: dict[str, tuple[Mark, Plan]] = {}
        self._costs = Costs()
        self._started = 0

    # -- the server --------------------------------------------------------------

    def addresses(self) -> Iterator[str]:
        return my.addresses(self._spec)

    def identity(self) -> str:
        return my.text(self._link.one(IDENTITY[self.vendor])[0])

    def check(self) -> None:
        facts.check_version(facts.version(self._link)[2], self.where)
        try:
            self._marks.prepare()
            with self._probe():
                pass
        except DatabaseError as error:
            if my.refused(error):
                raise facts.missing_right(self._link, self._spec, error) from error
            raise

    def warnings(self) -> list[str]:
        """Includes a measurement of CREATE TABLE."""
        with self._probe():
            return facts.warnings(self._link, self.where) + facts.slow_ddl(self._link, self.where)

    @contextlib.contextmanager
    def _probe(self) -> Iterator[None]:
        """An empty database, the current one inside the block."""
        name = f"test_dct_probe_{secrets.token_hex(6)}"
        with self._link.operation():
            now = self.now()
            with self._making(name, Mark("building", made=now, expires=now + 60)):
                self._link.run(f"CREATE DATABASE {my.identifier(name)}")
                self._link.use(name)
            try:
                yield
            finally:
                self.drop(name)

    def facts(self) -> dict[str, str]:
        return facts.facts(self._link)

    def capacity(self) -> int:
        return facts.capacity(self._link)

    def now(self) -> int:
        return int(self._link.one("SELECT UNIX_TIMESTAMP()")[0])

    def incarnation(self) -> str:
        uptime = int(self._link.one("SHOW GLOBAL STATUS LIKE 'Uptime'")[1])
        started = self.now() - uptime
        # Both are truncated to seconds at different moments.
        if abs(started - self._started) > 2:
            self._started = started
        return f"{self._started} {self.stats.failed}"

    def place(self, name: str) -> str:
        return name

    # -- marks and liveness ----------------------------------------------------------

    def find(self, name: str) -> Mark | None:
        mark = self._marks.there(name)
        return None if mark is None or mark.kind == "building" else mark

    def found(self, *, sizes: bool = False) -> list[Found]:
        return self._marks.found(sizes=sizes)

    def announce(self, name: str, mark: Mark) -> None:
        if not self._marks.has(ours(name)) and self._marks.exists(name):
            raise DatabaseError(f"{name!r} on {self.where} exists and does not carry our mark")
        self._marks.put(name, mark)

    def remark(self, name: str, mark: Mark) -> None:
        if not self._marks.change(ours(name), mark):
            raise DatabaseError(
                f"{name!r} on {self.where} does not carry our mark; it was not marked"
            )

    def liveness_lock(self, owner: str) -> LivenessLock:
        return MysqlLiveness(self._spec, self.stats, owner)

    def alive(self, owners: Iterable[str]) -> set[str]:
        return self._marks.alive(owners)

    def in_use(self, template: str) -> bool:
        return self._marks.in_use(template)

    def lock(self, name: str) -> AbstractContextManager[None]:
        return held(self._spec, self.stats, lock_name("l", name))

    def locked(self, name: str) -> bool:
        return self._link.one("SELECT IS_USED_LOCK(%s)", [lock_name("l", name)])[0] is not None

    # -- templates -----------------------------------------------------------------

    def seal(self, template: str, mark: Mark) -> None:
        if not self._marks.exists(ours(template)):
            raise DatabaseError(f"the template {template} was not built on {self.where}")
        if not self._marks.has(template):
            raise DatabaseError(
                f"{template!r} on {self.where} does not carry our mark; it was not sealed"
            )
        end_sessions(self._link, template)
        self.remark(template, mark if mark.state else mark.but(state=self.state(template)))

    def state(self, name: str) -> str:
        return read_inventory(self._link, ours(name)).state

    def export(self, name: str, file: Path) -> bool:
        export.export(self._link, ours(name), file)
        return True

    def restore(self, file: Path, name: str, mark: Mark) -> None:
        with self._making(name, mark):
            export.restore(self._link, file, name)

    # -- clones --------------------------------------------------------------------

    def clone(self, template: str, name: str, mark: Mark) -> None:
        ours(template), ours(name)
        begun = time.monotonic()
        try:
            with (
                self._link.operation(),
                turn(self._link, "dct_clone", self._policy.clones_at_once or 1),
            ):
                begun = time.monotonic()
                plan = self._plan(template)
                with self._making(name, mark):
                    replay(self._link, plan, name)
                    verify(self._link, plan, name)
        except DatabaseError as error:
            raise CloneFailed(f"{template} could not be cloned: {error}") from error
        self.stats.cloned += 1
        self.stats.clone_seconds += self._costs.cloned(template, time.monotonic() - begun)

    def heal(self, name: str, template: str, fresh: str, mark: Mark) -> str:
        ours(name), ours(template), ours(fresh)
        if not self._marks.has(name):
            raise CloneFailed(
                f"{name!r} on {self.where} does not carry our mark; it was not healed"
            )
        begun = time.monotonic()
        try:
            self.remark(name, mark.but(kind="building"))
            self._heal(self._plan(template), name, mark)
        except DatabaseError as error:
            self._clear(name)
            raise CloneFailed(f"{name} could not be healed from {template}: {error}") from error
        self.stats.healed += 1
        self.stats.heal_seconds += self._costs.healed(template, time.monotonic() - begun)
        return name

    def heals_cheaper(self, template: str) -> bool:
        known = self._costs.heals_cheaper(template)
        if known is not None:
            return known
        return facts.heals_cheaper(self._link, template)

    def adopt(self, template: str, fresh: str, mark: Mark) -> str | None:
        ours(template), ours(fresh)
        sealed = self._sealed(template)
        for name, idle in sorted(self._marks.all().items()):
            if idle is None or idle.kind != "idle" or idle.template != template:
                continue
            if self._marks.swap(name, idle, mark.but(kind="building")) and self._equal(
                name, template, sealed
            ):
                self.remark(name, mark)
                self.stats.adopted += 1
                return name
        return None

    def healthy(self, name: str) -> bool:
        try:
            return self._marks.exists(name)
        except DatabaseError:
            return False

    def shape(self, name: str) -> str:
        return facts.shape(self._link, ours(name))

    def discard(self, template: str) -> None:
        self.drop(template)

    def drop(self, name: str) -> None:
        try:
            ours(name)
        except DatabaseError as error:
            raise DatabaseError(f"{error}; it was not dropped") from error
        if self._marks.has(name):
            self._drop(name)
        elif self._marks.exists(name):
            raise DatabaseError(
                f"{name!r} on {self.where} does not carry our mark; it was not dropped"
            )

    def close(self) -> None:
        self._link.close()

    # -- parts ---------------------------------------------------------------------

    def _sealed(self, template: str) -> Mark:
        mark = self.find(ours(template))
        if mark is None or mark.kind not in _SEALED:
            raise DatabaseError(f"there is no sealed template {template} on {self.where}")
        return mark

    def _plan(self, template: str) -> Plan:
        """The template's plan, read once per mark: a rebuilt template has another mark."""
        mark = self._sealed(template).but(used=0, expires=0)
        known = self._plans.get(template)
        if known is None or known[0] != mark:
            known = self._plans[template] = (mark, read_plan(self._link, template))
        return known[1]

    @contextlib.contextmanager
    def _making(self, name: str, mark: Mark) -> Iterator[str]:
        """Marks the database before it exists, and with its final mark when it is complete.

        Nothing is left of one that fails.
        """
        if self._marks.exists(ours(name)):
            raise DatabaseError(f"the database {name} already exists")
        self._marks.put(name, mark.but(kind="building"))
        try:
            yield name
            self.remark(name, mark)
        except DatabaseError as error:
            if my.code(error) == my.DATABASE_EXISTS:  # another process just created it
                self._marks.remove(name)
            else:
                self._clear(name)
            raise
        except BaseException:
            self._clear(name)
            raise

    def _heal(self, plan: Plan, name: str, mark: Mark) -> None:
        end_sessions(self._link, name)
        heal.heal(self._link, plan, name)
        self.remark(name, mark)

    def _equal(self, name: str, template: str, sealed: Mark) -> bool:
        """Whether an idle clone still equals its template; if not, it is dropped."""
        wanted = sealed.state or self.state(template)
        with contextlib.suppress(DatabaseError):
            end_sessions(self._link, name)
            if self.state(name) == wanted:
                return True
        self._clear(name)
        return False

    def _clear(self, name: str) -> None:
        """Drops the database if it is marked.

        One that cannot be dropped now is collected later, by its mark.
        """
        with contextlib.suppress(DatabaseError):
            self._drop(name)

    def _drop(self, name: str) -> None:
        if not self._marks.has(name):
            return
        if self._marks.exists(name):
            # A half-dropped database is incomplete: here, tables are dropped one by one.
            self._marks.put(name, (self._marks.get(name) or Mark("building")).but(kind="building"))
            drop_database(self._link, name)
            self.stats.dropped += 1
        self._marks.remove(name)
