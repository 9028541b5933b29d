"""Reading what SHOW CREATE prints, on both makes of server."""

from __future__ import annotations

import pytest

from dct_celery.adapters.databases.mysql.inventory import Inventory, Stored, without_definer
from dct_celery.adapters.databases.mysql.plan import inheriting, with_position
from dct_celery.adapters.databases.mysql.tables import (
    describes,
    parents_first,
    special,
    split_position,
)

MARIADB = (
    "CREATE TABLE `t` (\n  `id` int(11) NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`id`)\n) "
    "ENGINE=InnoDB{} DEFAULT CHARSET=utf8mb4"
)
TABLESPACE = (
    "CREATE TABLE `t` (\n  `id` int\n) /*!50100 TABLESPACE `innodb_system` */ ENGINE=InnoDB{} "
    "DEFAULT CHARSET=utf8mb4"
)
PARTED = (
    MARIADB + "\n PARTITION BY RANGE (`id`)\n(PARTITION `p0` VALUES LESS THAN (10) ENGINE = InnoDB)"
)
COMMENTED = MARIADB + " COMMENT=') ENGINE=InnoDB AUTO_INCREMENT=99'"


@pytest.mark.parametrize("shown", [MARIADB, TABLESPACE, PARTED, COMMENTED])
def test_the_position_is_read_from_the_definition(shown: str) -> None:
    assert split_position(shown.format(" AUTO_INCREMENT=17")) == (shown.format(""), 17)
    assert split_position(shown.format("")) == (shown.format(""), None)


@pytest.mark.parametrize("shown", [MARIADB, TABLESPACE, PARTED, COMMENTED])
def test_a_table_is_made_with_its_position(shown: str) -> None:
    made = with_position(shown.format(""), 17)
    assert made.replace("AUTO_INCREMENT=17 ", "") == shown.format("")
    assert made.index("\n) AUTO_INCREMENT=17 ") == shown.index("\n) ")
    assert with_position(shown.format(""), None) == shown.format("")


def test_a_column_with_its_tables_collation_inherits_it_and_no_other_does() -> None:
    # Given: as MySQL prints it
    columns = (
        "`a` text COLLATE utf8mb4_bin",
        (
            "`b COLLATE utf8mb4_bin` text CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT ' "
            "COLLATE utf8mb4_bin'"
        ),
        "`c` text COLLATE utf8mb4_german2_ci COMMENT 'it''s \\' COLLATE utf8mb4_bin'",
    )
    shown = (
        "CREATE TABLE `t` (\n  {},\n  {},\n  {}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 "
        "COLLATE=utf8mb4_bin"
    )
    # Then
    assert inheriting(shown.format(*columns)) == shown.format("`a` text", *columns[1:])
    assert inheriting(MARIADB.format("")) == MARIADB.format("")


@pytest.mark.parametrize(
    "definer",
    [
        "`root`@`localhost`",
        "`o``dd`@`%`",
        "`role`@``",
        "`role`",
        "root@localhost",
        "root@%",
        "app@10.0.%",
    ],
)
def test_the_copy_belongs_to_its_maker_whatever_the_definer_was(definer: str) -> None:
    shown = (
        f"CREATE DEFINER={definer} TRIGGER `x` BEFORE INSERT ON `t` FOR EACH ROW SET @a = "
        "'DEFINER=`me`@`here`'"
    )
    assert without_definer(shown) == shown.replace(definer, "CURRENT_USER", 1)


def table(name: str, *parents: str) -> str:
    keys = "".join(
        f",\n  CONSTRAINT `{name}{p}` FOREIGN KEY (`x`) REFERENCES `{p}` (`id`)" for p in parents
    )
    return f"CREATE TABLE `{name}` (\n  `id` int{keys}\n) ENGINE=InnoDB"


def test_parents_come_before_their_children() -> None:
    tables = {
        "a": table("a", "c"),
        "b": table("b", "a", "a"),
        "c": table("c"),
        "d": table("d", "d", "elsewhere"),
    }
    assert list(parents_first(tables)) == ["c", "a", "b", "d"]


def test_tables_in_a_circle_are_all_there_once() -> None:
    tables = {
        "a": table("a", "b"),
        "b": table("b", "c"),
        "c": table("c", "a"),
        "d": table("d", "a"),
    }
    ordered = parents_first(tables)
    assert ordered == tables
    assert list(ordered).index("d") > list(ordered).index("a")


def test_a_long_chain_of_parents_is_no_deep_recursion() -> None:
    tables = {f"t{i:05}": table(f"t{i:05}", f"t{i + 1:05}") for i in range(3000)}
    assert list(parents_first(tables)) == sorted(tables, reverse=True)


@pytest.mark.parametrize(
    ("server", "yes"),
    [
        ("8.0.16", True),
        ("9.7.4-debian", True),
        ("8.4.0", True),
        ("8.0.15", False),
        ("5.5.5-10.11.19-MariaDB-1", False),
        ("11.8.2-MariaDB", False),
        ("unheard of", False),
    ],
)
def test_tables_are_described_from_information_schema_where_it_shows_everything(
    server: str, yes: bool
) -> None:
    assert describes(server) is yes


@pytest.mark.parametrize(
    ("description", "yes"),
    [
        (
            (
                "column 'a' '1'\nkey 'a' '1' 'a' '1' 'A' NULL 'BTREE' ''\noptions 'InnoDB'"
                " 'Dynamic' 'utf8mb4_bin' '' 'FULLTEXT'"
            ),
            False,
        ),
        ("options 'InnoDB' 'Dynamic' 'utf8mb4_bin' 'partitioned' ''", True),
        ("options 'MyISAM' 'Fixed' 'utf8mb4_bin' '' ''", True),
        (
            (
                "key 'a' '1' 'a' '1' NULL NULL 'FULLTEXT' '' 'YES' NULL\noptions 'InnoDB' 'Dynamic'"
                " 'utf8mb4_bin' '' ''"
            ),
            True,
        ),
        ("", True),
    ],
)
def test_a_table_that_it_does_not_show_entirely_is_shown_by_show_create(
    description: str, yes: bool
) -> None:
    assert special(description) is yes


def inventory(**changes: object) -> Inventory:
    stored = (Stored("VIEW", "v", "CREATE VIEW v"), Stored("TRIGGER", "w", "CREATE TRIGGER w"))
    values = {
        "charset": "utf8mb4",
        "collation": "utf8mb4_bin",
        "tables": {"a": "A", "b": "B"},
        "statements": {},
        "positions": {"a": 3},
        "contents": {"a": (2, 77)},
        "sequences": {"s": "S"},
        "values": {"s": (5, 0)},
        "stored": stored,
    }
    return Inventory(**{**values, **changes})  # type: ignore[arg-type]  # a dict of keywords


def test_what_is_equal_has_one_state_in_whatever_order_it_was_read() -> None:
    other = inventory(tables={"b": "B", "a": "A"}, stored=tuple(reversed(inventory().stored)))
    assert other.state == inventory().state
    assert inventory().difference(other) == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tables": {"a": "A"}}, "tables of b"),
        ({"positions": {}}, "positions of a: 3 is not None"),
        ({"contents": {"a": (2, 78)}}, r"contents of a"),
        ({"values": {"s": (6, 0)}}, "values of s"),
        ({"stored": ()}, "TRIGGER w"),
        ({"collation": "utf8mb4_general_ci"}, "character set or collation"),
    ],
)
def test_what_differs_has_another_state_and_is_named(
    changes: dict[str, object], words: str
) -> None:
    other = inventory(**changes)
    assert other.state != inventory().state
    assert words in inventory().difference(other)


@pytest.mark.parametrize(
    "changes", [{"positions": {}}, {"contents": {}}, {"values": {"s": (6, 0)}}]
)
def test_rows_and_positions_are_no_part_of_the_schema(changes: dict[str, object]) -> None:
    assert inventory(**changes).definitions == inventory().definitions
