"""What MariaDB and MySQL promise beyond the contract.

Marks in a registry, equal copies of everything, clear errors.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import MySQLdb
import pytest

from dct_celery.adapters.databases.mysql.inventory import read_inventory
from dct_celery.adapters.databases.mysql.marks import lock_name, owner_lock
from dct_celery.adapters.databases.mysql.plan import read_plan
from dct_celery.adapters.databases.mysql.server import MysqlServer
from dct_celery.core.databases.marks import Mark
from dct_celery.core.databases.names import REGISTRY
from dct_celery.errors import CloneFailed, DatabaseError, DatabaseUnfit, ServerFault
from dct_celery.ports import DatabasePolicy
from tests.contract.mysql import MysqlScene
from tests.support.mariadb import EmbeddedMariaDB

#: One of everything that a copy can get wrong.
EVERYTHING = (
    "ALTER DATABASE CHARACTER SET latin1 COLLATE latin1_german1_ci",
    (
        "CREATE TABLE author (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) CHARACTER SET "
        "utf8mb4 COLLATE utf8mb4_bin) DEFAULT CHARACTER SET utf8mb4 COMMENT 'who; "
        "wrote \\'it\\' AUTO_INCREMENT=99'"
    ),
    (
        "CREATE TABLE a_book (id INT AUTO_INCREMENT PRIMARY KEY, author_id INT, title VARCHAR(50), "
        "price DECIMAL(8,2) NOT NULL, gross DECIMAL(8,2) AS (price * 1.19) STORED, twice "
        "DECIMAL(9,2) AS (price * 2) VIRTUAL, KEY by_gross (gross), CHECK (price >= 0), CONSTRAINT "
        "fk FOREIGN KEY (author_id) REFERENCES author (id) ON DELETE CASCADE)"
    ),
    (
        "CREATE TABLE `odd ``name` (`a ``b` INT, `select` TEXT, f FLOAT, d DOUBLE, b BLOB, v "
        "VARBINARY(9), bits BIT(3), j JSON, t TIMESTAMP(6) NULL, z DATETIME NULL, e ENUM('x', "
        "'y\\'z'), FULLTEXT KEY words (`select`))"
    ),
    (
        "CREATE TABLE parts (id INT NOT NULL AUTO_INCREMENT, PRIMARY KEY (id)) PARTITION BY HASH "
        "(id) PARTITIONS 2"
    ),
    "CREATE TABLE circle_a (id INT PRIMARY KEY, b_id INT)",
    (
        "CREATE TABLE circle_b (id INT PRIMARY KEY, a_id INT, FOREIGN KEY (a_id) REFERENCES "
        "circle_a (id))"
    ),
    "ALTER TABLE circle_a ADD FOREIGN KEY (b_id) REFERENCES circle_b (id)",
    "CREATE TABLE audit (what TEXT)",
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
    "INSERT INTO author (id, name) VALUES (0, 'nobody'), (7, 'Ωσκαρ ''\\\\ \\n')",
    "INSERT INTO a_book (author_id, title, price) VALUES (7, 'Größe', 9.99), (0, NULL, 0)",
    (
        "INSERT INTO `odd ``name` VALUES (1, 'a;b%s', 0.123456789, 1e-300, x'00ff27', x'', b'101',"
        " '{\"a\": [1, null]}', '2026-03-29 01:30:00.123456', '0000-00-00', 'y\\'z'), (NULL, NULL,"
        " NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
    ),
    "INSERT INTO parts VALUES (), ()",
    "CREATE SEQUENCE numbers START WITH 5 INCREMENT BY 3 NOCACHE",
    "DO NEXTVAL(numbers)",
    "CREATE VIEW a_view AS SELECT * FROM z_view",
    "CREATE OR REPLACE VIEW z_view AS SELECT id, title FROM a_book",
    "CREATE OR REPLACE VIEW a_view AS SELECT id FROM z_view",
    "CREATE FUNCTION plus(a INT) RETURNS INT DETERMINISTIC RETURN a + 1",
    "CREATE PROCEDURE tidy() BEGIN DELETE FROM audit; SELECT ';'; END",
    "CREATE TRIGGER watch AFTER INSERT ON a_book FOR EACH ROW INSERT INTO audit VALUES (NEW.title)",
    (
        "CREATE TRIGGER gone BEFORE DELETE ON a_book FOR EACH ROW BEGIN INSERT INTO audit "
        "VALUES ('deleted'); END"
    ),
    (
        "CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 03:00:00' DISABLE DO CALL "
        "tidy()"
    ),
)
#: A view cannot be made before what it reads, so the first of two in the wrong order is made of a
#: stand-in.
STAND_IN = "CREATE VIEW z_view AS SELECT 1 AS id"


@pytest.fixture
def scene(mariadb_server: EmbeddedMariaDB) -> Iterator[MysqlScene]:
    with MysqlScene(mariadb_server) as scene:
        yield scene


@pytest.fixture
def everything(scene: MysqlScene) -> str:
    """A sealed template with one of everything."""
    at = next(
        i for i, statement in enumerate(EVERYTHING) if statement.startswith("CREATE VIEW a_view")
    )
    return scene.template(*EVERYTHING[:at], STAND_IN, *EVERYTHING[at:])


@pytest.fixture
def template(scene: MysqlScene) -> str:
    name = scene.name()
    scene.create(name)
    scene.server().seal(name, Mark("template"))
    return name


def owned(kind: str = "clone", template: str = "") -> Mark:
    return Mark(kind, run="run-one", worker="w1", owner="owner-one", template=template)


# -- equal copies ------------------------------------------------------------------------------


def test_a_clone_is_dumped_as_its_template_is(scene: MysqlScene, everything: str) -> None:
    # Given
    name = scene.name()
    # When
    scene.server().clone(everything, name, owned())
    # Then
    dump = scene.dump(name)
    assert dump == scene.dump(everything)
    assert dump.count("CREATE") > 15
    assert scene.server().state(name) == scene.server().state(everything)


def test_generated_columns_are_not_written(scene: MysqlScene, everything: str) -> None:
    # When: MariaDB would only warn, MySQL refuses
    columns = read_plan(scene.server()._link, everything).columns
    # Then
    assert columns["a_book"] == ["id", "author_id", "title", "price"]
    assert sorted(columns) == ["a_book", "author", "odd `name", "parts"]  # those with rows


def test_a_clone_belongs_to_its_maker(scene: MysqlScene) -> None:
    # Given
    template, name = scene.template("CREATE TABLE t (id INT)"), scene.name()
    scene.ask(f"CREATE VIEW {template}.v AS SELECT * FROM {template}.t")  # the administrator's
    scene.server().seal(template, Mark("template"))
    # When
    scene.server().clone(template, name, owned())
    # Then
    query = "SELECT definer FROM information_schema.views WHERE table_schema = %s"
    assert scene.ask(query, [name]) == [(f"{scene.embedded.user}@%",)]


def test_tables_that_keep_their_history_are_cloned_and_never_taken_for_healed(
    scene: MysqlScene,
) -> None:
    # Given
    rows = (
        "CREATE TABLE book (id INT) WITH SYSTEM VERSIONING",
        "INSERT INTO book VALUES (1), (2), (3)",
    )
    template, name, server = scene.template(*rows), scene.name(), scene.server()
    # When
    server.clone(template, name, owned())
    # Then
    assert scene.rows(name) == [(1,), (2,), (3,)]
    with pytest.raises(CloneFailed, match="contents of book"):
        server.heal(name, template, scene.name(), owned())
    assert not scene.exists(name)


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO author (name) VALUES ('new')",
        "DELETE FROM a_book",
        "UPDATE a_book SET title = 'other' WHERE id = 1",
        "ALTER TABLE author AUTO_INCREMENT = 50",
        "CREATE TABLE extra (id INT)",
        "DROP TABLE parts",
        "ALTER TABLE audit ADD COLUMN more INT",
        "ALTER TABLE a_book DROP KEY by_gross",
        "ALTER TABLE a_book DROP FOREIGN KEY fk",
        "CREATE OR REPLACE VIEW a_view AS SELECT 1 AS id",
        "DROP FUNCTION plus",
        "DROP TRIGGER watch",
        "ALTER EVENT nightly ENABLE",
        "DO NEXTVAL(numbers)",
        "ALTER DATABASE CHARACTER SET utf8mb4",
    ],
)
def test_whatever_a_test_can_see_changes_the_state(
    scene: MysqlScene, everything: str, change: str
) -> None:
    # Given
    before = scene.server().state(everything)
    # When
    scene.run(everything, change)
    # Then
    assert scene.server().state(everything) != before


#: One of everything that information_schema shows of a table, less what only one make of server
#: has.
DEFINED = (
    "CREATE TABLE author (id INT AUTO_INCREMENT PRIMARY KEY, pen INT UNIQUE)",
    (
        "CREATE TABLE audit (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(50) NOT NULL DEFAULT "
        "'x', b INT, c DATETIME(6), e TEXT, g INT AS (b + 1) STORED, author_id INT, KEY ka (a), "
        "KEY kb (b), CONSTRAINT fk FOREIGN KEY (author_id) REFERENCES author (id), CONSTRAINT ck "
        "CHECK (b > 0))"
    ),
    "CREATE TABLE parts (id INT NOT NULL, PRIMARY KEY (id)) PARTITION BY HASH (id) PARTITIONS 2",
    "CREATE TABLE plain (id INT) ENGINE=MyISAM",
    "CREATE TABLE words (w TEXT, FULLTEXT KEY (w))",
)
_FOREIGN = "ADD CONSTRAINT {} FOREIGN KEY (author_id) REFERENCES author {}"
_CHANGES = (
    "ADD COLUMN z INT",
    "DROP COLUMN e",
    "MODIFY c DATETIME(6) AFTER e",
    "RENAME COLUMN c TO d",
    "ALTER a SET DEFAULT 'y'",
    "ALTER a SET DEFAULT 'NULL'",
    "ALTER a DROP DEFAULT",
    "MODIFY c DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6)",
    "MODIFY c DATETIME(6) ON UPDATE CURRENT_TIMESTAMP(6)",
    "MODIFY c DATETIME(3)",
    "MODIFY c DATETIME(6) COMMENT 'when'",
    "MODIFY c DATETIME(6) NOT NULL",
    "MODIFY id INT",
    "MODIFY a VARCHAR(51) NOT NULL DEFAULT 'x'",
    "MODIFY a VARCHAR(50) COLLATE utf8mb4_bin NOT NULL DEFAULT 'x'",
    "MODIFY a VARCHAR(50) CHARACTER SET latin1 NOT NULL DEFAULT 'x'",
    "MODIFY g INT AS (b + 2) STORED",
    "ADD KEY more (b, a)",
    "ADD UNIQUE KEY more (b)",
    "ADD FULLTEXT KEY more (e)",
    "DROP KEY kb",
    "RENAME INDEX kb TO kc",
    "DROP KEY ka, ADD UNIQUE KEY ka (a)",
    "DROP KEY ka, ADD KEY ka (a(7))",
    "DROP KEY ka, ADD KEY ka (a) COMMENT 'by a'",
    "DROP FOREIGN KEY fk",
    "DROP FOREIGN KEY fk, " + _FOREIGN.format("other", "(id)"),
    "DROP FOREIGN KEY fk; " + _FOREIGN.format("fk", "(pen)"),
    "DROP FOREIGN KEY fk; " + _FOREIGN.format("fk", "(id) ON DELETE CASCADE"),
    "DROP FOREIGN KEY fk; " + _FOREIGN.format("fk", "(id) ON UPDATE SET NULL"),
    "ADD CONSTRAINT more CHECK (b < 100)",
    "DROP CONSTRAINT ck",
    "DROP CONSTRAINT ck; ADD CONSTRAINT ck CHECK (b > 1)",
    "COMMENT 'what'",
    "ROW_FORMAT=COMPACT",
    "STATS_PERSISTENT=1",
    "AUTO_INCREMENT=50",
    "COLLATE utf8mb4_bin",
    "CONVERT TO CHARACTER SET latin1",
)
#: Make -> what it alone knows.
_OWN_CHANGES = {
    "MySQL": (
        "ALTER INDEX kb INVISIBLE",
        "ALTER CHECK ck NOT ENFORCED",
        "MODIFY b INT INVISIBLE",
        "ADD KEY more ((b * 2))",
        "DROP KEY ka, ADD KEY ka (a DESC)",
        "ADD COLUMN place POINT SRID 4326",
    ),
    "MariaDB": ("ALTER INDEX kb IGNORED", "MODIFY c DATETIME(6) INVISIBLE"),
}


def _changes(scene: MysqlScene) -> list[str]:
    return [
        f"ALTER TABLE audit {change}"
        for change in (*_CHANGES, *_OWN_CHANGES[scene.make_of_server()])
    ] + [
        "ALTER TABLE parts PARTITION BY HASH (id) PARTITIONS 3",
        "ALTER TABLE plain ADD COLUMN more INT",
        "ALTER TABLE words COMMENT 'words'",
    ]


def test_every_alter_table_changes_the_state(scene: MysqlScene) -> None:
    # Given
    name, server = scene.name(), scene.server()
    scene.make(name, *DEFINED)
    sealed, missed = server.state(name), []
    for change in _changes(scene):
        table = change.split()[2]
        # When
        scene.run(name, *change.replace("; ", f"; ALTER TABLE {table} ").split("; "))
        # Then
        if server.state(name) == sealed:
            missed.append(change)
        scene.run(
            name,
            "SET foreign_key_checks = 0",
            "DROP TABLE author, audit, parts, plain, words",
            *DEFINED,
        )
        assert server.state(name) == sealed
    assert missed == []


def test_a_position_is_read_as_it_is_now(scene: MysqlScene) -> None:
    # Given: MySQL keeps for a day what it was asked before
    name, server = scene.name(), scene.server()
    scene.make(
        name, "CREATE TABLE book (id INT AUTO_INCREMENT PRIMARY KEY)", "INSERT INTO book VALUES ()"
    )
    read = []
    # When
    for change in (
        "INSERT INTO book VALUES (), ()",
        "ALTER TABLE book AUTO_INCREMENT = 90",
        "FLUSH TABLES",
        "TRUNCATE book",
    ):
        scene.ask(
            "SELECT auto_increment FROM information_schema.tables WHERE table_schema = %s", [name]
        )
        scene.ask(change.replace("book", f"{name}.book"))
        read.append(read_inventory(server._link, name).positions)
    # Then
    assert read == [{"book": 4}, {"book": 90}, {"book": 90}, {}]


def test_an_exported_template_comes_back_equal(
    scene: MysqlScene, everything: str, tmp_path: Path
) -> None:
    # Given
    name, file = scene.name(), tmp_path / "default.export"
    assert scene.server().export(everything, file)
    # When
    scene.server().restore(file, name, owned("building"))
    # Then
    assert scene.dump(name) == scene.dump(everything)
    found = scene.server().find(name)
    assert found is None  # until it is sealed
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("damage", ["cut", "changed", "not gzip"])
def test_a_damaged_export_leaves_nothing_behind(
    scene: MysqlScene, everything: str, tmp_path: Path, damage: str
) -> None:
    # Given
    import gzip

    name, file = scene.name(), tmp_path / "default.export"
    scene.server().export(everything, file)
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "changed":
        file.write_bytes(
            gzip.compress(gzip.decompress(data).replace(b"VALUES ('1', '7'", b"VALUES ('1', '0'"))
        )
    else:
        file.write_bytes(b"no such thing")
    # When
    with pytest.raises(DatabaseError, match=r"default\.export"):
        scene.server().restore(file, name, owned("building"))
    # Then
    assert not scene.exists(name)
    assert scene.server().find(name) is None


# -- healing -----------------------------------------------------------------------------------


def test_a_healed_clone_is_dumped_as_its_template_is(scene: MysqlScene, everything: str) -> None:
    # Given
    server, name = scene.server(), scene.name()
    server.clone(everything, name, owned())
    with scene.session(name) as session:
        session.execute("INSERT INTO author (name) VALUES ('new'), ('newer')")
        session.execute("DELETE FROM a_book WHERE id = 1")
        session.execute("INSERT INTO a_book (author_id, price) VALUES (7, 1)")
        session.execute("UPDATE `odd ``name` SET f = 2")
        session.execute("INSERT INTO circle_a VALUES (1, NULL)")
        session.execute("DO NEXTVAL(numbers)")
        session.commit()
        session.execute("INSERT INTO parts VALUES ()")
        session.execute("ROLLBACK")
    assert scene.dump(name) != scene.dump(everything)
    # When
    assert server.heal(name, everything, scene.name(), owned()) == name
    # Then
    assert scene.dump(name) == scene.dump(everything)
    assert server.find(name) == owned()
    assert server.stats.healed == 1


def test_a_clone_whose_schema_was_changed_is_dropped_instead_of_healed(
    scene: MysqlScene, everything: str
) -> None:
    # Given
    server, name = scene.server(), scene.name()
    server.clone(everything, name, owned())
    scene.run(name, "ALTER TABLE audit ADD COLUMN more INT")
    # When
    with pytest.raises(CloneFailed, match="its schema was changed: tables of audit"):
        server.heal(name, everything, scene.name(), owned())
    # Then
    assert not scene.exists(name)


def test_sessions_on_a_clone_are_ended_when_it_is_healed(scene: MysqlScene, template: str) -> None:
    # Given
    server, name = scene.server(), scene.name()
    server.clone(template, name, owned())
    with scene.session(name) as session:
        session.execute("DELETE FROM book")  # not committed: the rows are locked
        # When
        server.heal(name, template, scene.name(), owned())
        # Then
        with pytest.raises(MySQLdb.OperationalError):
            session.execute("SELECT 1")
    assert scene.rows(name) == [(1,), (2,), (3,)]


def test_an_idle_clone_has_one_taker_and_is_equal(scene: MysqlScene, template: str) -> None:
    # Given
    server, good, bad = scene.server(), scene.name(), scene.name()
    for name in (bad, good):
        server.clone(template, name, owned())
    scene.run(bad, "DELETE FROM book")
    for name in (bad, good):
        server.remark(name, Mark("idle", template=template))
    # When
    takers = [scene.server() for _ in range(4)]
    names: list[str | None] = []
    threads = [
        threading.Thread(
            target=lambda taker=taker: names.append(taker.adopt(template, scene.name(), owned()))
        )
        for taker in takers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # Then
    assert sorted(names, key=str) == [None, None, None, good]
    assert server.find(good) == owned()
    assert not scene.exists(bad)


def test_an_idle_clone_of_another_template_is_left_alone(scene: MysqlScene, template: str) -> None:
    # Given
    server, name = scene.server(), scene.name()
    server.clone(template, name, owned())
    server.remark(name, Mark("idle", template="test_another"))
    # Then
    assert server.adopt(template, scene.name(), owned()) is None
    assert scene.exists(name)


# -- broken off --------------------------------------------------------------------------------


def test_a_clone_whose_copying_fails_half_way_leaves_nothing(
    scene: MysqlScene, template: str
) -> None:
    # Given: the plan was read while the column was there
    server, name = scene.server(), scene.name()
    server.clone(template, scene.name(), owned())
    scene.run(template, "ALTER TABLE book DROP COLUMN title")
    # When
    with pytest.raises(CloneFailed, match=f"{template} could not be cloned: .*title"):
        server.clone(template, name, owned())
    # Then
    assert not scene.exists(name)
    assert name not in [found.name for found in server.found()]
    assert scene.ask(f"SELECT 1 FROM {REGISTRY}.marks WHERE name = %s", [name]) == []


def test_a_copy_that_differs_is_noticed_and_dropped(scene: MysqlScene, template: str) -> None:
    # Given: rows that came after the plan was read
    server, name = scene.server(), scene.name()
    server.clone(template, scene.name(), owned())
    scene.run(template, "INSERT INTO book (title) VALUES ('four')")
    # When
    with pytest.raises(CloneFailed, match="the copy is not equal: contents of book"):
        server.clone(template, name, owned())
    # Then
    assert not scene.exists(name)


_CLONE_AND_DIE = """
import sys
from dct_celery.adapters.databases.mysql import plan
from dct_celery.adapters.databases.mysql.server import MysqlServer
from dct_celery.core.databases.marks import Mark
from dct_celery.ports import DatabaseSpec
spec, template, name = DatabaseSpec("default", "mysql", "", *sys.argv[1:5]), *sys.argv[5:7]
server = MysqlServer(spec)
sign = server.liveness_lock("dying")
def stop_half_way(link, stored):
    print("half way", flush=True)
    sys.stdin.read()
plan.make_stored = stop_half_way
server.clone(template, name, Mark("clone", owner="dying"))
"""


def test_kill_minus_nine_half_way_leaves_something_marked_that_can_be_collected(
    scene: MysqlScene, template: str
) -> None:
    # Given
    server, name, spec = scene.server(), scene.name(), scene.spec
    argv = [
        sys.executable,
        "-c",
        _CLONE_AND_DIE,
        spec.host,
        spec.port,
        spec.user,
        spec.password,
        template,
        name,
    ]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half way\n"
        assert server.alive(["dying"]) == {"dying"}
        # When
        process.send_signal(signal.SIGKILL)
    until(lambda: server.alive(["dying"]) == set())
    # Then
    found = next(found for found in server.found() if found.name == name)
    assert found.mark == Mark("building", owner="dying")
    server.drop(name)
    assert not scene.exists(name)


def test_two_clones_at_once_are_both_equal(scene: MysqlScene, everything: str) -> None:
    # Given
    servers, names = [scene.server(), scene.server()], [scene.name(), scene.name()]
    threads = [
        threading.Thread(target=server.clone, args=(everything, name, owned()))
        for server, name in zip(servers, names, strict=True)
    ]
    # When
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Then
    states = {scene.server().state(name) for name in [everything, *names]}
    assert len(states) == 1


def test_a_clone_waits_for_its_turn(scene: MysqlScene, template: str) -> None:
    # Given
    server, name = scene.server(), scene.name()
    thread = threading.Thread(target=server.clone, args=(template, name, owned()))
    with scene.session("") as session:
        session.execute("SELECT GET_LOCK('dct_clone_0', 5)")
        # When
        thread.start()
        thread.join(0.3)
        # Then
        assert thread.is_alive()
        assert not scene.exists(name)
    thread.join(30)
    assert scene.exists(name)


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (1040, ServerFault.CONNECTIONS),
        (1226, ServerFault.CONNECTIONS),
        (1114, ServerFault.DISK),
        (1053, ServerFault.AWAY),
        (1062, None),
    ],
)
def test_what_the_server_lacks_is_known_by_its_code_whatever_the_message(
    scene: MysqlScene, number: int, fault: ServerFault | None
) -> None:
    # Given
    said = (
        f"BEGIN NOT ATOMIC SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {number}, "
        "MESSAGE_TEXT = 'voll'; END"
    )
    if scene.make_of_server() == "MySQL":
        pytest.skip("MySQL has no such block outside of a routine")
    # When
    with pytest.raises(DatabaseError) as caught:
        scene.server()._link.run(said)
    # Then
    assert caught.value.fault is fault


def test_a_server_that_does_not_listen_is_away(scene: MysqlScene) -> None:
    # Given
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        server = MysqlServer(replace(scene.spec, port=str(nobody.getsockname()[1])))
        # When
        with pytest.raises(DatabaseError) as caught:
            server.check()
    # Then
    assert caught.value.fault is ServerFault.AWAY


def test_the_server_is_known_by_its_address_and_its_own_name(scene: MysqlScene) -> None:
    # When
    first, second = scene.server().addresses()
    # Then
    assert (first, second) == (scene.embedded.host, str(scene.ask("SELECT @@hostname")[0][0]))
    assert scene.server().identity() == scene.server().identity() != ""


# -- marks -------------------------------------------------------------------------------------


def test_a_database_of_our_name_without_our_mark_is_not_dropped(scene: MysqlScene) -> None:
    # Given
    name = scene.name()
    scene.ask(f"CREATE DATABASE {name}")
    # When
    for verb in (scene.server().drop, scene.server().discard):
        with pytest.raises(DatabaseError, match="does not carry our mark"):
            verb(name)
    for word in (scene.server().announce, scene.server().remark, scene.server().seal):
        with pytest.raises(DatabaseError, match="does not carry our mark"):
            word(name, owned())
    # Then
    assert scene.exists(name)
    assert [found.ours for found in scene.server().found() if found.name == name] == [False]


@pytest.mark.parametrize(
    "line", ["dct1 kind=clone", "dct2 name=test_other kind=clone", "dct2 ours", ""]
)
def test_a_row_that_is_no_mark_of_this_database_does_not_make_it_ours(
    scene: MysqlScene, line: str
) -> None:
    # Given
    name = scene.name()
    scene.server().check()
    scene.ask(f"CREATE DATABASE {name}")
    scene.ask(f"INSERT INTO {REGISTRY}.marks VALUES (%s, %s, 0)", [name, line])
    # When
    for verb in (scene.server().drop, scene.server().discard):
        with pytest.raises(DatabaseError, match="does not carry our mark"):
            verb(name)
    for word in (scene.server().announce, scene.server().remark, scene.server().seal):
        with pytest.raises(DatabaseError, match="does not carry our mark"):
            word(name, owned())
    # Then
    assert scene.exists(name)
    assert [found.ours for found in scene.server().found() if found.name == name] == [False]


def test_the_registry_is_never_listed_and_never_dropped(scene: MysqlScene, template: str) -> None:
    # When
    for verb in (scene.server().drop, scene.server().discard, scene.server().state):
        with pytest.raises(DatabaseError, match="is not one of our databases"):
            verb(REGISTRY)
    for word in (scene.server().announce, scene.server().remark, scene.server().seal):
        with pytest.raises(DatabaseError, match="is not one of our databases"):
            word(REGISTRY, owned())
    # Then
    assert scene.exists(REGISTRY)
    assert REGISTRY not in [found.name for found in scene.server().found()]


def test_a_clone_never_takes_the_place_of_another_database(
    scene: MysqlScene, template: str
) -> None:
    # Given
    taken = scene.name()
    scene.create(taken)
    # When
    with pytest.raises(CloneFailed, match="already exists"):
        scene.server().clone(template, taken, owned())
    # Then
    assert scene.rows(taken) == [(1,), (2,), (3,)]


def test_what_is_not_sealed_is_not_cloned(scene: MysqlScene) -> None:
    # Given
    building = scene.name()
    scene.create(building)
    # Then
    with pytest.raises(CloneFailed, match=f"there is no sealed template {building}"):
        scene.server().clone(building, scene.name(), owned())


def test_a_template_rebuilt_under_its_name_is_cloned_as_it_is_now(
    scene: MysqlScene, template: str
) -> None:
    # Given
    server, name = scene.server(), scene.name()
    server.clone(template, scene.name(), owned())
    server.drop(template)
    scene.make(template, "CREATE TABLE book (id BIGINT)", "INSERT INTO book VALUES (9)")
    server.seal(template, Mark("template"))
    # When
    server.clone(template, name, owned())
    # Then
    assert scene.rows(name) == [(9,)]


def test_a_mark_without_its_database_is_forgotten_when_its_owner_is_dead(scene: MysqlScene) -> None:
    # Given
    server, dead, living, young = scene.server(), scene.name(), scene.name(), scene.name()
    sign = server.liveness_lock("living")
    server.announce(dead, Mark("building", owner="dead"))
    server.announce(living, Mark("building", owner="living"))
    server.announce(young, Mark("building"))
    # When
    server.found()
    sign.close()
    # Then
    query = f"SELECT name FROM {REGISTRY}.marks WHERE name LIKE %s ORDER BY name"
    assert scene.ask(query, [f"test\\_{scene.token}%"]) == [(living,), (young,)]
    assert server.find(young) is None


def test_a_server_that_lost_its_registry_gets_a_new_one(scene: MysqlScene) -> None:
    # Given
    server, name = scene.server(), scene.name()
    server.announce(name, Mark("building"))
    scene.ask(f"DROP DATABASE {REGISTRY}")
    # Then
    assert server.find(name) is None
    server.announce(name, Mark("building"))
    assert scene.exists(REGISTRY)


def test_a_drop_goes_through_a_session_that_holds_locks(scene: MysqlScene, template: str) -> None:
    # Given
    server, name = scene.server(), scene.name()
    server.clone(template, name, owned())
    with scene.session(name) as session:
        session.execute("SELECT * FROM book FOR UPDATE")
        begun = time.monotonic()
        # When
        server.drop(name)
    # Then
    assert not scene.exists(name)
    assert time.monotonic() - begun < 5


# -- liveness ----------------------------------------------------------------------------------


def test_a_liveness_lock_comes_back_after_its_session_was_ended(
    scene: MysqlScene, template: str
) -> None:
    # Given
    server = scene.server()
    sign = server.liveness_lock("owner-two")
    sign.hold(template)
    [(session,)] = scene.ask("SELECT IS_USED_LOCK(%s)", [owner_lock("owner-two")])
    scene.ask(f"KILL {session}")
    until(lambda: not server.in_use(template))
    server.found()  # which forgets the holds of the dead
    # When
    sign.renew()
    # Then
    assert server.alive(["owner-two", "owner-three"]) == {"owner-two"}
    assert server.in_use(template)
    sign.close()
    until(lambda: server.alive(["owner-two"]) == set())
    assert not server.in_use(template)


def test_an_owner_with_two_databases_on_a_server_is_alive_until_its_last_lock_ends(
    scene: MysqlScene, template: str
) -> None:
    # Given
    server = scene.server()
    one, two = server.liveness_lock("owner-five"), scene.server().liveness_lock("owner-five")
    two.hold(template)
    # When
    one.close()
    until(lambda: scene.ask("SELECT IS_USED_LOCK(%s)", [owner_lock("owner-five")]) == [(None,)])
    # Then
    assert server.alive(["owner-five"]) == {"owner-five"}
    assert server.in_use(template)
    two.close()
    until(lambda: not server.alive(["owner-five"]))


def test_a_silent_owner_is_forgotten_by_the_server(scene: MysqlScene) -> None:
    # Given
    sign = scene.server().liveness_lock("owner-four")
    [(session,)] = scene.ask("SELECT IS_USED_LOCK(%s)", [owner_lock("owner-four")])
    # Then
    assert sign._link.one("SELECT @@wait_timeout, CONNECTION_ID()") == (60, session)  # type: ignore[attr-defined]
    sign.close()


def test_a_lock_is_seen_while_it_is_held(scene: MysqlScene) -> None:
    # Given
    server, name = scene.server(), scene.name()
    # Then
    assert not server.locked(name)
    with server.lock(name):
        assert scene.server().locked(name)
    until(lambda: not server.locked(name))


def test_names_of_locks_fit_whatever_they_are_made_of() -> None:
    assert len(lock_name("l", "x" * 1000)) <= 64
    assert lock_name("l", "a") != lock_name("l", "A") != lock_name("o", "A")


# -- connections -------------------------------------------------------------------------------


def test_a_forked_child_leaves_its_parents_session_alone(scene: MysqlScene, template: str) -> None:
    # Given
    server = scene.server()
    session = server._link.id()
    # When
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if server._link.id() != session and server.find(template) is not None:
                code = 0
            del server
            gc.collect()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    # Then
    assert os.waitstatus_to_exitcode(status) == 0
    assert server._link.one("SELECT CONNECTION_ID()") == (session,)
    assert server.stats.opened == 1


def test_a_connection_is_replaced_after_enough_statements(scene: MysqlScene) -> None:
    # Given
    server = scene.server(policy=DatabasePolicy(max_operations=3))
    # When
    for _ in range(7):
        server.now()
    # Then
    assert (
        server.stats.opened,
        server.stats.recycled,
        server.stats.reused,
        server.stats.statements,
    ) == (3, 2, 4, 7)


def test_a_connection_is_replaced_when_it_is_old(scene: MysqlScene) -> None:
    # Given
    server = scene.server(policy=DatabasePolicy(max_age=1e-9))
    # When
    server.now()
    server.now()
    # Then
    assert (server.stats.opened, server.stats.recycled) == (2, 1)


def test_a_connection_that_was_lost_silently_is_replaced_before_it_is_used(
    scene: MysqlScene,
) -> None:
    # Given
    server = scene.server(policy=DatabasePolicy(health_check_seconds=0))
    scene.ask(f"KILL {server._link.id()}")
    # When
    server.now()
    # Then
    assert (server.stats.opened, server.stats.failed) == (2, 1)


def test_a_connection_that_is_lost_in_use_is_one_error_and_no_more(
    scene: MysqlScene, template: str
) -> None:
    # Given
    server, name = scene.server(), scene.name()
    scene.ask(f"KILL {server._link.id()}")
    # When
    with pytest.raises(DatabaseError):
        server.now()
    # Then
    server.clone(template, name, owned())
    assert scene.rows(name) == [(1,), (2,), (3,)]


def test_the_unix_socket_is_used_when_the_host_is_a_path(scene: MysqlScene) -> None:
    # Given
    from dataclasses import replace

    from dct_celery.adapters.databases.mysql.server import MysqlServer

    server = MysqlServer(replace(scene.spec, host=scene.embedded.socket, port=""))
    # Then
    server.check()
    assert server.where == scene.embedded.socket
    server.close()


# -- rights and trouble ------------------------------------------------------------------------


def test_a_user_without_rights_is_shown_the_grant(scene: MysqlScene) -> None:
    # Given
    user = scene.user()
    # When
    with pytest.raises(DatabaseError) as caught:
        scene.server(user, "secret").check()
    # Then
    assert f"GRANT ALL ON `test\\_%`.* TO '{user}'@'%'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_the_grant_that_is_shown_is_enough(scene: MysqlScene) -> None:
    # Given
    server = scene.server(scene.user("ALL ON `test\\_%`.*"), "secret")
    # When
    server.check()
    # Then
    assert server.capacity() > 100
    assert server.facts()["vendor"] == "mariadb"
    assert server.warnings() == []
    assert not [found.name for found in server.found() if "probe" in found.name]


def test_the_limit_of_the_user_counts_as_well(scene: MysqlScene) -> None:
    # Given
    user = scene.user("ALL ON `test\\_%`.*")
    scene.ask(f"ALTER USER {user} WITH MAX_USER_CONNECTIONS 5")
    server = scene.server(user, "secret")
    # Then
    assert server.capacity() == 4
    with server.lock("x"):
        assert server.capacity() == 3


def test_a_server_that_turns_us_down_is_one_line_without_the_password(
    scene: MysqlScene,
) -> None:
    # When
    with pytest.raises(DatabaseUnfit, match="cannot be reached from this worker") as caught:
        scene.server("nobody", "pass-word").check()
    # Then
    assert "\n" not in str(caught.value)
    assert "pass-word" not in str(caught.value)


def until(condition: Callable[[], bool]) -> None:
    """The server ends sessions in its own time."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
