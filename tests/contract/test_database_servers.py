"""What every database server promises.

Templates that are sealed, clones that are equal, and hands off what is not ours.
"""

from __future__ import annotations

import contextlib
import pickle
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from dct_celery.adapters.databases.sqlite.server import SqliteFolder
from dct_celery.adapters.embedded import EmbeddedPostgres
from dct_celery.core.databases.marks import Mark
from dct_celery.core.databases.names import OURS
from dct_celery.errors import CloneFailed, DatabaseError
from dct_celery.ports import DatabaseServer, DatabaseSpec
from tests.contract.postgres import PostgresHouse

BUILDING = Mark("building", run="run-one", owner="builder", expires=2_000_000_000)
TEMPLATE = Mark("template", run="run-one", made=1_700_000_000)
CLONE = Mark("clone", run="run-one", worker="build-a", owner="slot", expires=1_800_000_000)
#: What a test may do to rows: each statement works everywhere.
DIRT = (
    "INSERT INTO loan (book) VALUES (1)",
    "INSERT INTO book (title) VALUES ('new')",
    "UPDATE book SET title = 'other' WHERE id = 1",
    "DELETE FROM book WHERE id = 2",
)
CHANGES = {
    "a row more": ["INSERT INTO book (title) VALUES ('new')"],
    "a row less": ["DELETE FROM book WHERE id = 2"],
    "another value": ["UPDATE book SET title = 'other' WHERE id = 1"],
    "a table that was empty": ["INSERT INTO loan (book) VALUES (1)"],
    "a number given out": ["INSERT INTO loan (book) VALUES (1)", "DELETE FROM loan"],
    "a column": ["ALTER TABLE book ADD COLUMN extra integer"],
    "a table": ["CREATE TABLE more (id integer)"],
    "an index": ["CREATE INDEX book_title ON book (title)"],
}
_HOLDER = """
import pickle, sys
from dct_celery.adapters.databases.select import server_for
spec, folder, owner, template = pickle.loads(sys.stdin.buffer.read())
server = server_for(spec, folder)
sign = server.liveness_lock(owner)
sign.hold(template)
with server.lock(template):
    print("held", flush=True)
    while True:
        __import__("time").sleep(60)
"""


class House(Protocol):
    """One server as a test sees it, by the database's own means."""

    #: What a worker needs to come here.
    spec: DatabaseSpec
    folder: Path

    def server(self) -> DatabaseServer: ...
    def name(self) -> str:
        """A name of ours that is unused."""

    def create(self, name: str) -> None:
        """A database as a template build makes it, announced and not sealed.

        `book` (id, title) has the rows 1, 2, 3, numbered by the server; `loan` (id, book) is empty
        and refers to `book`.
        """

    def foreign(self, name: str) -> None:
        """The same made by another program: without a mark of ours."""

    def run(self, name: str, *statements: str) -> None:
        """Statements in one database, committed."""

    def rows(self, name: str) -> list[Any]:
        """(id,) of each book, in order."""

    def dump(self, name: str) -> str:
        """Definitions and rows as the database's own tools print them: equal ones are equal."""

    def exists(self, name: str) -> bool: ...
    def session(self, name: str) -> contextlib.AbstractContextManager[Any]: ...


class SqliteHouse:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = DatabaseSpec("default", "sqlite", "bookshop.sqlite3")
        self.server().check()

    def server(self) -> SqliteFolder:
        return SqliteFolder(self.folder)

    def name(self) -> str:
        return f"test_{secrets.token_hex(6)}"

    def create(self, name: str) -> None:
        self.server().announce(name, BUILDING)
        self.foreign(name)

    def foreign(self, name: str) -> None:
        sqlite3.connect(self.server().place(name)).close()
        self.run(
            name,
            "CREATE TABLE book (id integer PRIMARY KEY AUTOINCREMENT, title varchar(100))",
            "CREATE TABLE loan (id integer PRIMARY KEY AUTOINCREMENT, book integer REFERENCES book "
            "(id))",
            "INSERT INTO book (title) VALUES ('one'), ('two'), ('three')",
        )

    def run(self, name: str, *statements: str) -> None:
        with self.session(name) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, name: str) -> list[Any]:
        with self.session(name) as connection:
            return connection.execute("SELECT id FROM book ORDER BY id").fetchall()

    def dump(self, name: str) -> str:
        with self.session(name) as connection:
            return "\n".join(connection.iterdump())

    def exists(self, name: str) -> bool:
        return any(path.suffix != ".lock" for path in self.folder.glob(f"{name}.*"))

    def session(self, name: str) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return contextlib.closing(
            sqlite3.connect(f"file:{self.server().place(name)}?mode=rw", uri=True)
        )


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    if request.param == "sqlite":
        yield SqliteHouse(tmp_path / "databases")
    elif request.param == "postgres":
        server: EmbeddedPostgres = request.getfixturevalue("postgres_server")
        with PostgresHouse(server) as postgres:
            yield postgres
    else:
        from tests.contract.mysql import MysqlHouse

        with MysqlHouse(request.getfixturevalue("mariadb_server")) as mysql:
            yield mysql


def sealed(house: House) -> str:
    """A template that is ready."""
    template = house.name()
    house.create(template)
    house.server().seal(template, TEMPLATE)
    return template


def cloned(house: House, template: str, mark: Mark = CLONE) -> str:
    """A new clone of the template."""
    name = house.name()
    house.server().clone(template, name, replace(mark, template=template))
    return name


def eventually(claim: Any, seconds: float = 10.0) -> bool:
    """Whether a claim about another process comes true in time."""
    until = time.monotonic() + seconds
    while not claim() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(claim())


# -- the server ------------------------------------------------------------------------


def test_the_server_can_be_used(house: House) -> None:
    # Given
    server = house.server()
    # When
    server.check()
    # Then
    assert server.vendor == house.spec.vendor
    assert server.capacity() > 0
    assert abs(server.now() - time.time()) < 3600
    assert server.where
    assert "version" in server.facts()
    assert server.facts() == house.server().facts()
    assert all("\n" not in line for line in server.warnings())


def test_a_database_is_named_by_a_place_that_holds_its_name(house: House) -> None:
    # Given
    name = house.name()
    # Then
    assert OURS.match(name)
    assert name in house.server().place(name)


# -- marks -----------------------------------------------------------------------------


def test_a_template_is_found_when_it_is_sealed_and_not_before(house: House) -> None:
    # Given
    template = house.name()
    assert house.server().find(template) is None
    house.create(template)
    assert house.server().find(template) is None
    # When
    house.server().seal(template, TEMPLATE)
    # Then
    mark = house.server().find(template)
    assert mark is not None
    assert replace(mark, state="") == TEMPLATE
    assert mark.state == house.server().state(cloned(house, template))


def test_a_state_that_the_builder_knows_is_kept(house: House) -> None:
    # Given
    template = house.name()
    house.create(template)
    # When
    house.server().seal(template, replace(TEMPLATE, state="known"))
    # Then
    assert house.server().find(template) == replace(TEMPLATE, state="known")


def test_a_clone_carries_its_mark_and_may_get_another(house: House) -> None:
    # Given
    template = sealed(house)
    name = cloned(house, template)
    mark = replace(CLONE, template=template)
    assert house.server().find(name) == mark
    # When
    house.server().remark(name, replace(mark, kind="idle", owner=""))
    # Then
    assert house.server().find(name) == replace(mark, kind="idle", owner="")


def test_a_database_in_the_making_is_listed_but_not_found(house: House) -> None:
    # Given
    name = cloned(house, sealed(house), BUILDING)
    # Then
    assert house.server().find(name) is None
    assert [
        found.mark.kind for found in house.server().found() if found.name == name and found.mark
    ] == ["building"]


def test_every_database_of_our_pattern_is_listed_marked_or_not(house: House) -> None:
    # Given
    template, foreign, announced = sealed(house), house.name(), house.name()
    name = cloned(house, template)
    house.foreign(foreign)
    house.create(announced)
    # When
    found = {found.name: found for found in house.server().found(sizes=True)}
    # Then
    assert {template, name, foreign, announced} <= set(found)
    assert found[name].mark == replace(CLONE, template=template)
    assert [found[one].ours for one in (template, name, announced, foreign)] == [
        True,
        True,
        True,
        False,
    ]
    assert found[template].bytes > 0


def test_what_is_not_ours_gets_no_mark(house: House) -> None:
    # Given
    foreign = house.name()
    house.foreign(foreign)
    # When
    for verb in (house.server().remark, house.server().seal):
        with pytest.raises(DatabaseError, match="does not carry our mark"):
            verb(foreign, TEMPLATE)
    # Then
    assert not any(found.ours for found in house.server().found() if found.name == foreign)
    assert house.rows(foreign) == [(1,), (2,), (3,)]


def test_what_was_never_built_cannot_be_sealed(house: House) -> None:
    # Given
    template = house.name()
    # When
    with pytest.raises(DatabaseError):
        house.server().seal(template, TEMPLATE)
    # Then
    assert house.server().find(template) is None


# -- liveness ----------------------------------------------------------------------------


def test_an_owner_is_alive_as_long_as_its_liveness_lock_is_held(house: House) -> None:
    # Given
    owner, other = house.name(), house.name()
    assert house.server().alive([owner, other]) == set()
    # When
    sign = house.server().liveness_lock(owner)
    # Then
    sign.renew()
    assert house.server().alive([owner, other]) == {owner}
    # When
    sign.close()
    # Then
    assert eventually(lambda: house.server().alive([owner]) == set())


def test_a_template_is_in_use_while_a_living_owner_holds_it(house: House) -> None:
    # Given
    template, other = house.name(), house.name()
    one, two = (
        house.server().liveness_lock(house.name()),
        house.server().liveness_lock(house.name()),
    )
    assert not house.server().in_use(template)
    # When
    one.hold(template)
    one.hold(template)
    two.hold(template)
    # Then
    assert house.server().in_use(template)
    assert not house.server().in_use(other)
    # When
    one.close()
    # Then
    assert house.server().in_use(template)
    # When
    two.close()
    # Then
    assert eventually(lambda: not house.server().in_use(template))


def test_liveness_locks_holds_and_locks_end_with_their_process_however_it_dies(
    house: House,
) -> None:
    # Given
    owner, template = house.name(), house.name()
    house.server().check()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(pickle.dumps((house.spec, house.folder, owner, template)))
        process.stdin.close()
        try:
            assert process.stdout.readline() == b"held\n"
            server = house.server()
            assert server.alive([owner]) == {owner}
            assert server.in_use(template)
            assert server.locked(template)
        # When
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    # Then
    assert eventually(
        lambda: (
            not server.alive([owner])
            and not server.in_use(template)
            and not server.locked(template)
        )
    )


# -- locks -------------------------------------------------------------------------------


def test_a_template_has_one_builder_at_a_time(house: House) -> None:
    # Given
    template = house.name()
    order: list[str] = []
    waiting = threading.Event()

    def build() -> None:
        other = house.server()
        waiting.set()
        with other.lock(template):
            order.append("second")
        other.close()

    thread = threading.Thread(target=build)
    server = house.server()
    with server.lock(template):
        # When
        thread.start()
        assert waiting.wait(10)
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    # Then
    assert not thread.is_alive()
    assert order == ["first", "second"]


def test_the_locks_of_two_templates_do_not_conflict(house: House) -> None:
    # Given
    server, other = house.server(), house.server()
    # When / Then: this would hang
    with server.lock(house.name()), other.lock(house.name()):
        pass


def test_a_lock_is_seen_by_others_and_free_again_after_its_holder_failed(house: House) -> None:
    # Given
    template = house.name()
    server, seen = house.server(), []
    assert not server.locked(template)
    # When
    with contextlib.suppress(ValueError), server.lock(template):
        seen.append(house.server().locked(template))
        raise ValueError("broken build")
    # Then
    assert seen == [True]
    # When / Then: this would hang
    with house.server().lock(template):
        pass
    assert eventually(lambda: not house.server().locked(template))


# -- clones ------------------------------------------------------------------------------


def test_a_clone_equals_its_template(house: House) -> None:
    # Given
    template = house.name()
    house.create(template)
    before = house.dump(template)
    house.server().seal(template, TEMPLATE)
    # When
    name = cloned(house, template)
    # Then
    assert house.rows(name) == [(1,), (2,), (3,)]
    assert house.dump(name).replace(name, template) == before
    assert house.server().healthy(name)


def test_a_clone_has_one_owner(house: House) -> None:
    # Given
    template = sealed(house)
    one = cloned(house, template)
    # When
    house.run(one, "DELETE FROM book")
    two = cloned(house, template)
    # Then
    assert house.rows(one) == []
    assert house.rows(two) == [(1,), (2,), (3,)]


def test_clones_of_one_template_are_made_by_several_at_once(house: House) -> None:
    # Given
    template = sealed(house)
    names = [house.name() for _ in range(6)]
    servers = [house.server() for _ in names]
    threads = [
        threading.Thread(target=server.clone, args=(template, name, CLONE))
        for server, name in zip(servers, names, strict=True)
    ]
    # When
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Then
    assert [house.rows(name) for name in names] == [[(1,), (2,), (3,)]] * 6


def test_a_failed_clone_leaves_nothing_behind(house: House) -> None:
    # Given
    name, absent = house.name(), house.name()
    # When
    with pytest.raises(CloneFailed, match=absent):
        house.server().clone(absent, name, CLONE)
    # Then
    assert not house.exists(name)
    assert not house.exists(absent)
    assert not house.server().healthy(name)


@pytest.mark.parametrize("ending", ["announced", "clone"])
def test_what_is_not_sealed_is_not_cloned(house: House, ending: str) -> None:
    # Given
    name, source = house.name(), house.name()
    if ending == "announced":
        house.create(source)
    else:
        source = cloned(house, sealed(house))
    # When
    with pytest.raises(CloneFailed, match="sealed template"):
        house.server().clone(source, name, CLONE)
    # Then
    assert not house.exists(name)
    assert house.rows(source) == [(1,), (2,), (3,)]


def test_a_clone_never_takes_the_place_of_another_database(house: House) -> None:
    # Given
    template, taken = sealed(house), house.name()
    house.foreign(taken)
    house.run(taken, "DELETE FROM book WHERE id = 1")
    # When
    with pytest.raises(CloneFailed, match="already exists"):
        house.server().clone(template, taken, CLONE)
    # Then
    assert house.rows(taken) == [(2,), (3,)]
    assert not any(found.ours for found in house.server().found() if found.name == taken)


def test_two_clones_of_one_name_do_not_destroy_each_other(house: House) -> None:
    # Given
    template = sealed(house)
    name = cloned(house, template)
    # When
    with pytest.raises(CloneFailed, match="already exists"):
        house.server().clone(template, name, replace(CLONE, owner="thief"))
    # Then
    assert house.server().find(name) == replace(CLONE, template=template)


# -- state -------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_the_state_is_different_after_any_change(house: House, change: str) -> None:
    # Given
    template = sealed(house)
    one, two = cloned(house, template), cloned(house, template)
    server = house.server()
    before = server.state(one)
    assert before == server.state(two) == server.state(one)
    # When
    house.run(one, *CHANGES[change])
    # Then
    assert server.state(one) != before


def test_the_state_does_not_depend_on_the_order_of_rows(house: House) -> None:
    # Given
    name = cloned(house, sealed(house))
    before = house.server().state(name)
    # When
    house.run(
        name, "DELETE FROM book WHERE id = 1", "INSERT INTO book (id, title) VALUES (1, 'one')"
    )
    # Then
    assert house.server().state(name) == before


# -- healing and adoption ------------------------------------------------------------------


def test_a_healed_clone_equals_its_template_again(house: House) -> None:
    # Given
    template = sealed(house)
    pristine = cloned(house, template)
    expected, server, name = (
        house.dump(pristine).replace(pristine, "it"),
        house.server(),
        cloned(house, template),
    )
    mark = replace(CLONE, template=template, owner="next")
    for _ in range(3):  # what a server learns of the template at first helps it later
        house.run(name, *DIRT)
        assert house.dump(name).replace(name, "it") != expected
        # When
        used, name = name, server.heal(name, template, house.name(), mark)
        # Then
        assert house.dump(name).replace(name, "it") == expected
        assert house.server().state(name) == house.server().state(pristine)
        assert house.server().find(name) == mark
        assert name == used or not house.exists(used)
    assert server.stats.healed == 3
    assert server.stats.heal_seconds > 0
    assert isinstance(server.heals_cheaper(template), bool)


def test_healing_ends_open_sessions(house: House) -> None:
    # Given
    template = sealed(house)
    server = house.server()
    name = server.heal(cloned(house, template), template, house.name(), CLONE)
    with house.session(name) as connection:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        # When
        name = server.heal(name, template, house.name(), CLONE)
    # Then
    assert house.rows(name) == [(1,), (2,), (3,)]


@pytest.mark.parametrize("times", [1, 2])
def test_a_clone_whose_definitions_changed_is_equal_again_or_gone(house: House, times: int) -> None:
    # Given
    template, server = sealed(house), house.server()
    name = cloned(house, template)
    expected = server.state(name)
    for _ in range(times - 1):
        name = server.heal(name, template, house.name(), CLONE)
    house.run(name, "ALTER TABLE book ADD COLUMN extra integer")
    fresh = house.name()
    # When
    try:
        result = server.heal(name, template, fresh, CLONE)
    except CloneFailed:
        # Then
        assert not house.exists(name)
        assert not house.exists(fresh)
    else:
        assert server.state(result) == expected


def test_what_is_not_ours_is_not_healed(house: House) -> None:
    # Given
    template, foreign = sealed(house), house.name()
    house.foreign(foreign)
    # When
    with pytest.raises(CloneFailed, match="does not carry our mark"):
        house.server().heal(foreign, template, house.name(), CLONE)
    # Then
    assert house.rows(foreign) == [(1,), (2,), (3,)]


def test_an_idle_clone_is_adopted_by_the_next_one(house: House) -> None:
    # Given
    template, other = sealed(house), sealed(house)
    left = cloned(house, template, replace(CLONE, kind="idle"))
    server, mark = house.server(), replace(CLONE, template=template, owner="next")
    assert server.adopt(other, house.name(), mark) is None
    # When
    name = server.adopt(template, house.name(), mark)
    # Then
    assert name is not None
    assert house.server().find(name) == mark
    assert house.rows(name) == [(1,), (2,), (3,)]
    assert name == left or not house.exists(left)
    assert server.stats.adopted == 1
    assert server.adopt(template, house.name(), mark) is None


def test_a_clone_that_is_no_longer_equal_is_dropped_instead_of_adopted(house: House) -> None:
    # Given
    template = sealed(house)
    left = cloned(house, template, replace(CLONE, kind="idle"))
    house.run(left, "UPDATE book SET title = 'other' WHERE id = 1")
    fresh = house.name()
    # When
    adopted = house.server().adopt(template, fresh, CLONE)
    # Then
    assert adopted is None
    assert not house.exists(left)
    assert not house.exists(fresh)


def test_a_clone_with_an_open_session_is_not_adopted(house: House) -> None:
    # Given
    template = sealed(house)
    name = cloned(house, template)
    # Then
    assert house.server().adopt(template, house.name(), CLONE) is None
    assert house.rows(name) == [(1,), (2,), (3,)]


def test_of_two_adopters_one_gets_the_clone(house: House) -> None:
    # Given
    template = sealed(house)
    for _ in range(3):
        cloned(house, template, replace(CLONE, kind="idle"))
    results: list[str | None] = []
    start = threading.Barrier(6)

    def adopt() -> None:
        server = house.server()
        start.wait(10)
        results.append(server.adopt(template, house.name(), replace(CLONE, template=template)))

    threads = [threading.Thread(target=adopt) for _ in range(6)]
    # When
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Then
    winners = [name for name in results if name]
    assert len(results) == 6
    assert len(set(winners)) == len(winners) == 3
    assert all(house.server().find(name) == replace(CLONE, template=template) for name in winners)


# -- exports -----------------------------------------------------------------------------


def test_an_exported_database_comes_back_equal(house: House, tmp_path: Path) -> None:
    # Given
    name, again, file = cloned(house, sealed(house)), house.name(), tmp_path / "export"
    server = house.server()
    if not server.export(name, file):
        assert not file.exists()
        return
    # When
    house.server().restore(file, again, BUILDING)
    # Then
    assert house.dump(again).replace(again, name) == house.dump(name)
    assert server.state(again) == server.state(name)
    assert server.find(again) is None
    server.seal(again, TEMPLATE)
    assert server.find(again) == replace(TEMPLATE, state=server.state(name))


def test_a_damaged_export_leaves_nothing_behind(house: House, tmp_path: Path) -> None:
    # Given
    name, file = house.name(), tmp_path / "export"
    file.write_bytes(b"half a file")
    # When
    with pytest.raises(DatabaseError):
        house.server().restore(file, name, BUILDING)
    # Then
    assert not house.exists(name)


# -- drops -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["clone", "template", "announced"])
def test_what_is_ours_is_dropped_and_may_be_dropped_again(house: House, ending: str) -> None:
    # Given
    if ending == "announced":
        name = house.name()
        house.create(name)
    else:
        template = sealed(house)
        name = template if ending == "template" else cloned(house, template)
    server = house.server()
    # When
    server.drop(name)
    server.drop(name)
    # Then
    assert not house.exists(name)
    assert server.find(name) is None
    assert not server.healthy(name)
    assert server.stats.dropped == 1


def test_a_drop_does_not_wait_for_open_sessions(house: House) -> None:
    # Given
    name = cloned(house, sealed(house))
    with house.session(name) as connection:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        # When
        house.server().drop(name)
    # Then
    assert not house.exists(name)


@pytest.mark.parametrize(
    "name",
    ["bookshop", "postgres", "test_", "../test_abc", "test_abc; x", "Test_abc", "test_abc\n"],
)
def test_foreign_names_are_never_touched(house: House, name: str) -> None:
    server, good = house.server(), house.name()
    for touch in (
        lambda: server.drop(name),
        lambda: server.discard(name),
        lambda: server.seal(name, TEMPLATE),
        lambda: server.remark(name, CLONE),
        lambda: server.announce(name, BUILDING),
        lambda: server.clone(good, name, CLONE),
        lambda: server.clone(name, good, CLONE),
        lambda: server.heal(name, good, house.name(), CLONE),
        lambda: server.heal(good, good, name, CLONE),
        lambda: server.adopt(good, name, CLONE),
        lambda: server.restore(house.folder / "absent", name, BUILDING),
    ):
        with pytest.raises(DatabaseError, match="is not one of our databases"):
            touch()


def test_a_database_without_our_mark_is_never_dropped(house: House) -> None:
    # Given
    foreign = house.name()
    house.foreign(foreign)
    # When
    for verb in (house.server().drop, house.server().discard):
        with pytest.raises(DatabaseError, match="does not carry our mark"):
            verb(foreign)
    # Then
    assert house.rows(foreign) == [(1,), (2,), (3,)]


def test_the_rest_of_a_failed_build_can_be_discarded(house: House) -> None:
    # Given
    template = house.name()
    house.create(template)
    # When
    house.server().discard(template)
    house.server().discard(template)
    # Then
    assert not house.exists(template)


# -- statistics --------------------------------------------------------------------------


def test_what_was_done_is_counted(house: House) -> None:
    # Given
    template, server, names = sealed(house), house.server(), [house.name(), house.name()]
    # When
    for name in names:
        server.clone(template, name, CLONE)
    server.drop(names[0])
    # Then
    assert (
        server.stats.cloned,
        server.stats.dropped,
        server.stats.healed,
        server.stats.adopted,
    ) == (2, 1, 0, 0)
    assert server.stats.clone_seconds > 0


def test_the_shape_changes_with_the_schema_and_not_with_rows(house: House) -> None:
    # Given
    template = house.name()
    house.create(template)
    house.server().seal(template, TEMPLATE)
    name, server = cloned(house, template), house.server()
    before = server.shape(name)
    # When
    house.run(name, "INSERT INTO book (id, title) VALUES (77, 'seventy-seven')")
    rows = server.shape(name)
    house.run(name, "ALTER TABLE book ADD COLUMN shade integer")
    # Then
    assert rows == before
    assert server.shape(name) != before
