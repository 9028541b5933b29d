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
from tests.contract.postgres import PostgresScene

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


class Scene(Protocol):
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


class SqliteScene:
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
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    if request.param == "sqlite":
        yield SqliteScene(tmp_path / "databases")
    elif request.param == "postgres":
        server: EmbeddedPostgres = request.getfixturevalue("postgres_server")
        with PostgresScene(server) as postgres:
            yield postgres
    else:
        from tests.contract.mysql import MysqlScene

        with MysqlScene(request.getfixturevalue("mariadb_server")) as mysql:
            yield mysql


def sealed(scene: Scene) -> str:
    """A template that is ready."""
    template = scene.name()
    scene.create(template)
    scene.server().seal(template, TEMPLATE)
    return template


def cloned(scene: Scene, template: str, mark: Mark = CLONE) -> str:
    """A new clone of the template."""
    name = scene.name()
    scene.server().clone(template, name, replace(mark, template=template))
    return name


def eventually(claim: Any, seconds: float = 10.0) -> bool:
    """Whether a claim about another process comes true in time."""
    until = time.monotonic() + seconds
    while not claim() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(claim())


# -- the server ------------------------------------------------------------------------


def test_the_server_can_be_used(scene: Scene) -> None:
    # Given
    server = scene.server()
    # When
    server.check()
    # Then
    assert server.vendor == scene.spec.vendor
    assert server.capacity() > 0
    assert abs(server.now() - time.time()) < 3600
    assert server.where
    assert "version" in server.facts()
    assert server.facts() == scene.server().facts()
    assert all("\n" not in line for line in server.warnings())


def test_a_database_is_named_by_a_place_that_holds_its_name(scene: Scene) -> None:
    # Given
    name = scene.name()
    # Then
    assert OURS.match(name)
    assert name in scene.server().place(name)


# -- marks -----------------------------------------------------------------------------


def test_a_template_is_found_when_it_is_sealed_and_not_before(scene: Scene) -> None:
    # Given
    template = scene.name()
    assert scene.server().find(template) is None
    scene.create(template)
    assert scene.server().find(template) is None
    # When
    scene.server().seal(template, TEMPLATE)
    # Then
    mark = scene.server().find(template)
    assert mark is not None
    assert replace(mark, state="") == TEMPLATE
    assert mark.state == scene.server().state(cloned(scene, template))


def test_a_state_that_the_builder_knows_is_kept(scene: Scene) -> None:
    # Given
    template = scene.name()
    scene.create(template)
    # When
    scene.server().seal(template, replace(TEMPLATE, state="known"))
    # Then
    assert scene.server().find(template) == replace(TEMPLATE, state="known")


def test_a_clone_carries_its_mark_and_may_get_another(scene: Scene) -> None:
    # Given
    template = sealed(scene)
    name = cloned(scene, template)
    mark = replace(CLONE, template=template)
    assert scene.server().find(name) == mark
    # When
    scene.server().remark(name, replace(mark, kind="idle", owner=""))
    # Then
    assert scene.server().find(name) == replace(mark, kind="idle", owner="")


def test_a_database_in_the_making_is_listed_but_not_found(scene: Scene) -> None:
    # Given
    name = cloned(scene, sealed(scene), BUILDING)
    # Then
    assert scene.server().find(name) is None
    assert [
        found.mark.kind for found in scene.server().found() if found.name == name and found.mark
    ] == ["building"]


def test_every_database_of_our_pattern_is_listed_marked_or_not(scene: Scene) -> None:
    # Given
    template, foreign, announced = sealed(scene), scene.name(), scene.name()
    name = cloned(scene, template)
    scene.foreign(foreign)
    scene.create(announced)
    # When
    found = {found.name: found for found in scene.server().found(sizes=True)}
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


def test_what_is_not_ours_gets_no_mark(scene: Scene) -> None:
    # Given
    foreign = scene.name()
    scene.foreign(foreign)
    # When
    for verb in (scene.server().remark, scene.server().seal):
        with pytest.raises(DatabaseError, match="does not carry our mark"):
            verb(foreign, TEMPLATE)
    # Then
    assert not any(found.ours for found in scene.server().found() if found.name == foreign)
    assert scene.rows(foreign) == [(1,), (2,), (3,)]


def test_what_was_never_built_cannot_be_sealed(scene: Scene) -> None:
    # Given
    template = scene.name()
    # When
    with pytest.raises(DatabaseError):
        scene.server().seal(template, TEMPLATE)
    # Then
    assert scene.server().find(template) is None


# -- liveness ----------------------------------------------------------------------------


def test_an_owner_is_alive_as_long_as_its_liveness_lock_is_held(scene: Scene) -> None:
    # Given
    owner, other = scene.name(), scene.name()
    assert scene.server().alive([owner, other]) == set()
    # When
    sign = scene.server().liveness_lock(owner)
    # Then
    sign.renew()
    assert scene.server().alive([owner, other]) == {owner}
    # When
    sign.close()
    # Then
    assert eventually(lambda: scene.server().alive([owner]) == set())


def test_a_template_is_in_use_while_a_living_owner_holds_it(scene: Scene) -> None:
    # Given
    template, other = scene.name(), scene.name()
    one, two = (
        scene.server().liveness_lock(scene.name()),
        scene.server().liveness_lock(scene.name()),
    )
    assert not scene.server().in_use(template)
    # When
    one.hold(template)
    one.hold(template)
    two.hold(template)
    # Then
    assert scene.server().in_use(template)
    assert not scene.server().in_use(other)
    # When
    one.close()
    # Then
    assert scene.server().in_use(template)
    # When
    two.close()
    # Then
    assert eventually(lambda: not scene.server().in_use(template))


def test_liveness_locks_holds_and_locks_end_with_their_process_however_it_dies(
    scene: Scene,
) -> None:
    # Given
    owner, template = scene.name(), scene.name()
    scene.server().check()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(pickle.dumps((scene.spec, scene.folder, owner, template)))
        process.stdin.close()
        try:
            assert process.stdout.readline() == b"held\n"
            server = scene.server()
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


def test_a_template_has_one_builder_at_a_time(scene: Scene) -> None:
    # Given
    template = scene.name()
    order: list[str] = []
    waiting = threading.Event()

    def build() -> None:
        other = scene.server()
        waiting.set()
        with other.lock(template):
            order.append("second")
        other.close()

    thread = threading.Thread(target=build)
    server = scene.server()
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


def test_the_locks_of_two_templates_do_not_conflict(scene: Scene) -> None:
    # Given
    server, other = scene.server(), scene.server()
    # When / Then: this would hang
    with server.lock(scene.name()), other.lock(scene.name()):
        pass


def test_a_lock_is_seen_by_others_and_free_again_after_its_holder_failed(scene: Scene) -> None:
    # Given
    template = scene.name()
    server, seen = scene.server(), []
    assert not server.locked(template)
    # When
    with contextlib.suppress(ValueError), server.lock(template):
        seen.append(scene.server().locked(template))
        raise ValueError("broken build")
    # Then
    assert seen == [True]
    # When / Then: this would hang
    with scene.server().lock(template):
        pass
    assert eventually(lambda: not scene.server().locked(template))


# -- clones ------------------------------------------------------------------------------


def test_a_clone_equals_its_template(scene: Scene) -> None:
    # Given
    template = scene.name()
    scene.create(template)
    before = scene.dump(template)
    scene.server().seal(template, TEMPLATE)
    # When
    name = cloned(scene, template)
    # Then
    assert scene.rows(name) == [(1,), (2,), (3,)]
    assert scene.dump(name).replace(name, template) == before
    assert scene.server().healthy(name)


def test_a_clone_has_one_owner(scene: Scene) -> None:
    # Given
    template = sealed(scene)
    one = cloned(scene, template)
    # When
    scene.run(one, "DELETE FROM book")
    two = cloned(scene, template)
    # Then
    assert scene.rows(one) == []
    assert scene.rows(two) == [(1,), (2,), (3,)]


def test_clones_of_one_template_are_made_by_several_at_once(scene: Scene) -> None:
    # Given
    template = sealed(scene)
    names = [scene.name() for _ in range(6)]
    servers = [scene.server() for _ in names]
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
    assert [scene.rows(name) for name in names] == [[(1,), (2,), (3,)]] * 6


def test_a_failed_clone_leaves_nothing_behind(scene: Scene) -> None:
    # Given
    name, absent = scene.name(), scene.name()
    # When
    with pytest.raises(CloneFailed, match=absent):
        scene.server().clone(absent, name, CLONE)
    # Then
    assert not scene.exists(name)
    assert not scene.exists(absent)
    assert not scene.server().healthy(name)


@pytest.mark.parametrize("ending", ["announced", "clone"])
def test_what_is_not_sealed_is_not_cloned(scene: Scene, ending: str) -> None:
    # Given
    name, source = scene.name(), scene.name()
    if ending == "announced":
        scene.create(source)
    else:
        source = cloned(scene, sealed(scene))
    # When
    with pytest.raises(CloneFailed, match="sealed template"):
        scene.server().clone(source, name, CLONE)
    # Then
    assert not scene.exists(name)
    assert scene.rows(source) == [(1,), (2,), (3,)]


def test_a_clone_never_takes_the_place_of_another_database(scene: Scene) -> None:
    # Given
    template, taken = sealed(scene), scene.name()
    scene.foreign(taken)
    scene.run(taken, "DELETE FROM book WHERE id = 1")
    # When
    with pytest.raises(CloneFailed, match="already exists"):
        scene.server().clone(template, taken, CLONE)
    # Then
    assert scene.rows(taken) == [(2,), (3,)]
    assert not any(found.ours for found in scene.server().found() if found.name == taken)


def test_two_clones_of_one_name_do_not_destroy_each_other(scene: Scene) -> None:
    # Given
    template = sealed(scene)
    name = cloned(scene, template)
    # When
    with pytest.raises(CloneFailed, match="already exists"):
        scene.server().clone(template, name, replace(CLONE, owner="thief"))
    # Then
    assert scene.server().find(name) == replace(CLONE, template=template)


# -- state -------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_the_state_is_different_after_any_change(scene: Scene, change: str) -> None:
    # Given
    template = sealed(scene)
    one, two = cloned(scene, template), cloned(scene, template)
    server = scene.server()
    before = server.state(one)
    assert before == server.state(two) == server.state(one)
    # When
    scene.run(one, *CHANGES[change])
    # Then
    assert server.state(one) != before


def test_the_state_does_not_depend_on_the_order_of_rows(scene: Scene) -> None:
    # Given
    name = cloned(scene, sealed(scene))
    before = scene.server().state(name)
    # When
    scene.run(
        name, "DELETE FROM book WHERE id = 1", "INSERT INTO book (id, title) VALUES (1, 'one')"
    )
    # Then
    assert scene.server().state(name) == before


# -- healing and adoption ------------------------------------------------------------------


def test_a_healed_clone_equals_its_template_again(scene: Scene) -> None:
    # Given
    template = sealed(scene)
    pristine = cloned(scene, template)
    expected, server, name = (
        scene.dump(pristine).replace(pristine, "it"),
        scene.server(),
        cloned(scene, template),
    )
    mark = replace(CLONE, template=template, owner="next")
    for _ in range(3):  # what a server learns of the template at first helps it later
        scene.run(name, *DIRT)
        assert scene.dump(name).replace(name, "it") != expected
        # When
        used, name = name, server.heal(name, template, scene.name(), mark)
        # Then
        assert scene.dump(name).replace(name, "it") == expected
        assert scene.server().state(name) == scene.server().state(pristine)
        assert scene.server().find(name) == mark
        assert name == used or not scene.exists(used)
    assert server.stats.healed == 3
    assert server.stats.heal_seconds > 0
    assert isinstance(server.heals_cheaper(template), bool)


def test_healing_ends_open_sessions(scene: Scene) -> None:
    # Given
    template = sealed(scene)
    server = scene.server()
    name = server.heal(cloned(scene, template), template, scene.name(), CLONE)
    with scene.session(name) as connection:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        # When
        name = server.heal(name, template, scene.name(), CLONE)
    # Then
    assert scene.rows(name) == [(1,), (2,), (3,)]


@pytest.mark.parametrize("times", [1, 2])
def test_a_clone_whose_definitions_changed_is_equal_again_or_gone(scene: Scene, times: int) -> None:
    # Given
    template, server = sealed(scene), scene.server()
    name = cloned(scene, template)
    expected = server.state(name)
    for _ in range(times - 1):
        name = server.heal(name, template, scene.name(), CLONE)
    scene.run(name, "ALTER TABLE book ADD COLUMN extra integer")
    fresh = scene.name()
    # When
    try:
        result = server.heal(name, template, fresh, CLONE)
    except CloneFailed:
        # Then
        assert not scene.exists(name)
        assert not scene.exists(fresh)
    else:
        assert server.state(result) == expected


def test_what_is_not_ours_is_not_healed(scene: Scene) -> None:
    # Given
    template, foreign = sealed(scene), scene.name()
    scene.foreign(foreign)
    # When
    with pytest.raises(CloneFailed, match="does not carry our mark"):
        scene.server().heal(foreign, template, scene.name(), CLONE)
    # Then
    assert scene.rows(foreign) == [(1,), (2,), (3,)]


def test_an_idle_clone_is_adopted_by_the_next_one(scene: Scene) -> None:
    # Given
    template, other = sealed(scene), sealed(scene)
    left = cloned(scene, template, replace(CLONE, kind="idle"))
    server, mark = scene.server(), replace(CLONE, template=template, owner="next")
    assert server.adopt(other, scene.name(), mark) is None
    # When
    name = server.adopt(template, scene.name(), mark)
    # Then
    assert name is not None
    assert scene.server().find(name) == mark
    assert scene.rows(name) == [(1,), (2,), (3,)]
    assert name == left or not scene.exists(left)
    assert server.stats.adopted == 1
    assert server.adopt(template, scene.name(), mark) is None


def test_a_clone_that_is_no_longer_equal_is_dropped_instead_of_adopted(scene: Scene) -> None:
    # Given
    template = sealed(scene)
    left = cloned(scene, template, replace(CLONE, kind="idle"))
    scene.run(left, "UPDATE book SET title = 'other' WHERE id = 1")
    fresh = scene.name()
    # When
    adopted = scene.server().adopt(template, fresh, CLONE)
    # Then
    assert adopted is None
    assert not scene.exists(left)
    assert not scene.exists(fresh)


def test_a_clone_with_an_open_session_is_not_adopted(scene: Scene) -> None:
    # Given
    template = sealed(scene)
    name = cloned(scene, template)
    # Then
    assert scene.server().adopt(template, scene.name(), CLONE) is None
    assert scene.rows(name) == [(1,), (2,), (3,)]


def test_of_two_adopters_one_gets_the_clone(scene: Scene) -> None:
    # Given
    template = sealed(scene)
    for _ in range(3):
        cloned(scene, template, replace(CLONE, kind="idle"))
    results: list[str | None] = []
    start = threading.Barrier(6)

    def adopt() -> None:
        server = scene.server()
        start.wait(10)
        results.append(server.adopt(template, scene.name(), replace(CLONE, template=template)))

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
    assert all(scene.server().find(name) == replace(CLONE, template=template) for name in winners)


# -- exports -----------------------------------------------------------------------------


def test_an_exported_database_comes_back_equal(scene: Scene, tmp_path: Path) -> None:
    # Given
    name, again, file = cloned(scene, sealed(scene)), scene.name(), tmp_path / "export"
    server = scene.server()
    if not server.export(name, file):
        assert not file.exists()
        return
    # When
    scene.server().restore(file, again, BUILDING)
    # Then
    assert scene.dump(again).replace(again, name) == scene.dump(name)
    assert server.state(again) == server.state(name)
    assert server.find(again) is None
    server.seal(again, TEMPLATE)
    assert server.find(again) == replace(TEMPLATE, state=server.state(name))


def test_a_damaged_export_leaves_nothing_behind(scene: Scene, tmp_path: Path) -> None:
    # Given
    name, file = scene.name(), tmp_path / "export"
    file.write_bytes(b"half a file")
    # When
    with pytest.raises(DatabaseError):
        scene.server().restore(file, name, BUILDING)
    # Then
    assert not scene.exists(name)


# -- drops -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["clone", "template", "announced"])
def test_what_is_ours_is_dropped_and_may_be_dropped_again(scene: Scene, ending: str) -> None:
    # Given
    if ending == "announced":
        name = scene.name()
        scene.create(name)
    else:
        template = sealed(scene)
        name = template if ending == "template" else cloned(scene, template)
    server = scene.server()
    # When
    server.drop(name)
    server.drop(name)
    # Then
    assert not scene.exists(name)
    assert server.find(name) is None
    assert not server.healthy(name)
    assert server.stats.dropped == 1


def test_a_drop_does_not_wait_for_open_sessions(scene: Scene) -> None:
    # Given
    name = cloned(scene, sealed(scene))
    with scene.session(name) as connection:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        # When
        scene.server().drop(name)
    # Then
    assert not scene.exists(name)


@pytest.mark.parametrize(
    "name",
    ["bookshop", "postgres", "test_", "../test_abc", "test_abc; x", "Test_abc", "test_abc\n"],
)
def test_foreign_names_are_never_touched(scene: Scene, name: str) -> None:
    server, good = scene.server(), scene.name()
    for touch in (
        lambda: server.drop(name),
        lambda: server.discard(name),
        lambda: server.seal(name, TEMPLATE),
        lambda: server.remark(name, CLONE),
        lambda: server.announce(name, BUILDING),
        lambda: server.clone(good, name, CLONE),
        lambda: server.clone(name, good, CLONE),
        lambda: server.heal(name, good, scene.name(), CLONE),
        lambda: server.heal(good, good, name, CLONE),
        lambda: server.adopt(good, name, CLONE),
        lambda: server.restore(scene.folder / "absent", name, BUILDING),
    ):
        with pytest.raises(DatabaseError, match="is not one of our databases"):
            touch()


def test_a_database_without_our_mark_is_never_dropped(scene: Scene) -> None:
    # Given
    foreign = scene.name()
    scene.foreign(foreign)
    # When
    for verb in (scene.server().drop, scene.server().discard):
        with pytest.raises(DatabaseError, match="does not carry our mark"):
            verb(foreign)
    # Then
    assert scene.rows(foreign) == [(1,), (2,), (3,)]


def test_the_rest_of_a_failed_build_can_be_discarded(scene: Scene) -> None:
    # Given
    template = scene.name()
    scene.create(template)
    # When
    scene.server().discard(template)
    scene.server().discard(template)
    # Then
    assert not scene.exists(template)


# -- statistics --------------------------------------------------------------------------


def test_what_was_done_is_counted(scene: Scene) -> None:
    # Given
    template, server, names = sealed(scene), scene.server(), [scene.name(), scene.name()]
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


def test_the_shape_changes_with_the_schema_and_not_with_rows(scene: Scene) -> None:
    # Given
    template = scene.name()
    scene.create(template)
    scene.server().seal(template, TEMPLATE)
    name, server = cloned(scene, template), scene.server()
    before = server.shape(name)
    # When
    scene.run(name, "INSERT INTO book (id, title) VALUES (77, 'seventy-seven')")
    rows = server.shape(name)
    scene.run(name, "ALTER TABLE book ADD COLUMN shade integer")
    # Then
    assert rows == before
    assert server.shape(name) != before
