"""What is put back, and who is refused; tests/concurrency_app has it on real databases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.testing.databases import Databases, Table, _reads, _repairs, _tables

KNOWN = {"shop_order", "shop_order_items", "log"}
CONNECTION: Any = SimpleNamespace(ops=SimpleNamespace(quote_name=lambda name: f'"{name}"'))
BEFORE = Table(("id", "n"), (0,), ((1, 10), (2, 20)))


@pytest.mark.parametrize(
    ("sql", "written"),
    [
        ('INSERT INTO "shop_order" ("id") VALUES (%s)', {"shop_order"}),
        ("update `shop_order_items` set n = 1", {"shop_order_items"}),
        ("/* why */ -- because\n DELETE FROM log", {"log"}),
        ("WITH old AS (SELECT 1) DELETE FROM log", {"log"}),
        ("TRUNCATE log, shop_order", {"log", "shop_order"}),
        ("SELECT * FROM log FOR UPDATE", set()),
        ("(SELECT 1 FROM log) UNION (SELECT 2)", set()),
        ('SAVEPOINT "log"', set()),
        ("DELETE FROM catalogue", set()),
    ],
)
def test_tables_that_a_statement_may_write_to_are_found(sql: str, written: set[str]) -> None:
    assert (set() if _reads(sql) else _tables(sql, KNOWN)) == written


@pytest.mark.parametrize(
    ("now", "statements"),
    [
        (((1, 10), (2, 20)), []),
        (((1, 11), (2, 20)), [('UPDATE "t" SET "n" = %s WHERE "id" = %s', [10, 1])]),
        (((1, 10), (2, 20), (3, 30)), [('DELETE FROM "t" WHERE "id" = %s', [3])]),
        (((2, 20),), [('INSERT INTO "t" ("id", "n") VALUES (%s, %s)', [1, 10])]),
    ],
)
def test_rows_are_put_back_by_their_differences(
    now: tuple[Any, ...], statements: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given no models, and so no columns that the database computes
    monkeypatch.setattr("dct_celery.testing.databases._stored_columns", lambda *_: [0, 1])
    # Then
    assert list(_repairs("t", BEFORE, Table(BEFORE.columns, (0,), now), CONNECTION)) == statements


def test_rows_without_a_key_are_all_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr("dct_celery.testing.databases._stored_columns", lambda *_: [0])
    before, now = Table(("n",), (), ((1,), (2,))), Table(("n",), (), ((2,), (2,)))
    insert = 'INSERT INTO "t" ("n") VALUES (%s)'
    # Then
    assert list(_repairs("t", before, now, CONNECTION)) == [
        ('DELETE FROM "t"', []),
        (insert, [1]),
        (insert, [2]),
    ]
    assert list(_repairs("t", before, Table(("n",), (), ((2,), (1,))), CONNECTION)) == []


def test_outside_tests_no_database_is_touched() -> None:
    # Given
    connection = SimpleNamespace(in_atomic_block=False)
    # When
    refusal = Databases("assert_concurrent_safety").refusal("default", connection)
    # Then
    assert refusal == (
        "assert_concurrent_safety() would use database 'default' outside tests: "
        "call it in a test, run by manage.py test or pytest"
    )
