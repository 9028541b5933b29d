"""Random tests that query, each counted twice: by our meter and by Django's CaptureQueriesContext.

`python -m tests.support.random_queries DATABASES SEED TESTS` sets up Django with these databases
(JSON), and prints a line for each test whose counts differ. No test here opens a connection that
CaptureQueriesContext does not know.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any


def main(databases: dict[str, Any], seed: int, tests: int) -> int:
    from django.conf import settings

    settings.configure(DATABASES=databases, SECRET_KEY="x", USE_TZ=True, INSTALLED_APPS=[])
    import django

    django.setup()
    from django.db import connections

    from dct_celery.testproc.django import query_meter
    from dct_celery.testproc.meter import Meter

    meter = Meter()
    query_meter.install(meter)
    for alias in connections:
        with connections[alias].cursor() as cursor:
            cursor.execute("CREATE TABLE book (id INTEGER PRIMARY KEY, title VARCHAR(50))")
    wrong = sum(_differs(meter, f"{seed}/{number}") for number in range(tests))
    for alias in connections:
        with connections[alias].cursor() as cursor:
            cursor.execute("DROP TABLE book")
    print(f"{tests} tests, {wrong} differ")
    return int(wrong > 0)


def _differs(meter: Any, name: str) -> bool:
    """Whether one random test is counted differently, looked at by Django or not."""
    from django.db import connections
    from django.test.utils import CaptureQueriesContext

    from dct_celery.testproc.meter import QUERIES

    for alias in connections:
        connections[alias].ensure_connection()
        connections[alias].queries_log.clear()
    meter.cut(0.0)
    with contextlib.ExitStack() as stack:
        captured = [
            stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in connections
        ]
        steps = _play(name)
    counted, seen = meter.cut(0.0)[QUERIES], sum(map(len, captured))
    _play(name)
    alone = meter.cut(0.0)[QUERIES]
    clean = all(not connections[alias].execute_wrappers for alias in connections)
    if counted == alone == seen and clean:
        return False
    print(f"{name}: {counted} and {alone} counted, {seen} captured: {', '.join(steps)}")
    return True


def _play(name: str) -> list[str]:
    """Runs the random test of this name; returns its steps."""
    from django.db import connections

    chance = random.Random(name)
    steps = [chance.choice(_STEPS) for _ in range(chance.randint(0, 6))]
    for step in steps:
        step(connections[chance.choice(list(connections))], chance)
    return [step.__name__ for step in steps]


# -- what a test may do --------------------------------------------------------------------


def _select(connection: Any, _: random.Random) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM book WHERE title = %s", ["a"])
        cursor.fetchall()


def _insert(connection: Any, chance: random.Random) -> None:
    with connection.cursor() as cursor:
        row = [chance.randrange(2**30), "a"]
        cursor.execute("DELETE FROM book WHERE id = %s", row[:1])
        cursor.execute("INSERT INTO book (id, title) VALUES (%s, %s)", row)


def _many(connection: Any, chance: random.Random) -> None:
    with connection.cursor() as cursor:
        rows = [(chance.choice("abc"), number) for number in range(chance.randrange(5))]
        cursor.executemany("UPDATE book SET title = %s WHERE id = %s", rows)


def _fails(connection: Any, _: random.Random) -> None:
    from django.db import DatabaseError, transaction

    with (
        contextlib.suppress(DatabaseError),
        transaction.atomic(using=connection.alias),
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT nothing FROM nowhere")


def _broken(connection: Any, _: random.Random) -> None:
    """A statement in a transaction that is broken: Django does not send it, and logs it."""
    from django.db import transaction

    with transaction.atomic(using=connection.alias):
        connection.set_rollback(True)
        with contextlib.suppress(transaction.TransactionManagementError):
            _select(connection, _)


def _atomic(connection: Any, chance: random.Random) -> None:
    from django.db import transaction

    with contextlib.suppress(ZeroDivisionError), transaction.atomic(using=connection.alias):
        _insert(connection, chance)
        with transaction.atomic(using=connection.alias, savepoint=chance.random() < 0.7):
            _select(connection, chance)
        if chance.random() < 0.5:
            raise ZeroDivisionError


def _manual(connection: Any, chance: random.Random) -> None:
    """Transactions without `atomic`."""
    from django.db import transaction

    transaction.set_autocommit(False, using=connection.alias)
    _insert(connection, chance)
    (transaction.commit if chance.random() < 0.5 else transaction.rollback)(using=connection.alias)
    transaction.set_autocommit(True, using=connection.alias)


def _wrapped(connection: Any, chance: random.Random) -> None:
    """Wrappers of the project that pass on, block, and send twice."""

    def passing(execute: Any, *args: Any) -> Any:
        return execute(*args)

    def blocking(execute: Any, *args: Any) -> Any:
        raise ZeroDivisionError

    def repeating(execute: Any, *args: Any) -> Any:
        execute(*args)
        return execute(*args)

    wrapper = chance.choice([passing, blocking, repeating])
    with connection.execute_wrapper(passing), connection.execute_wrapper(wrapper):
        assert connection.execute_wrappers == [passing, wrapper]
        with contextlib.suppress(ZeroDivisionError):
            _select(connection, chance)


def _queries_inside(connection: Any, chance: random.Random) -> None:
    """A wrapper that sends statements of its own."""
    inside: list[bool] = []

    def asking(execute: Any, *args: Any) -> Any:
        if not inside:
            inside.append(True)
            _select(connection, chance)
        return execute(*args)

    with connection.execute_wrapper(asking):
        _insert(connection, chance)


def _expected(connection: Any, chance: random.Random) -> None:
    """assertNumQueries inside of the test."""
    from django.test import SimpleTestCase, TransactionTestCase

    class Case(TransactionTestCase):
        databases = "__all__"

        def runTest(self) -> None: ...

    assert issubclass(Case, SimpleTestCase)
    with Case().assertNumQueries(2, using=connection.alias):
        _insert(connection, chance)


def _chunked(connection: Any, _: random.Random) -> None:
    from django.db import transaction

    with transaction.atomic(using=connection.alias), connection.chunked_cursor() as cursor:
        cursor.execute("SELECT id FROM book")
        cursor.fetchmany(2)


def _asynchronous(connection: Any, chance: random.Random) -> None:
    from asgiref.sync import async_to_sync, sync_to_async

    async def ask() -> None:
        await sync_to_async(_select)(connection, chance)

    async_to_sync(ask)()


def _as_bytes_or_lower(connection: Any, chance: random.Random) -> None:
    with connection.cursor() as cursor:
        cursor.execute(chance.choice(["select 1", "  /* why */ SELECT 1", "-- why\nselect 1"]))
        cursor.fetchall()


@contextlib.contextmanager
def _debugging(connection: Any) -> Iterator[None]:
    before, connection.force_debug_cursor = connection.force_debug_cursor, True
    try:
        yield
    finally:
        connection.force_debug_cursor = before


def _logged(connection: Any, chance: random.Random) -> None:
    """`force_debug_cursor` of the test's own."""
    with _debugging(connection):
        before = len(connection.queries)
        _select(connection, chance)
        assert len(connection.queries) == before + 1


_STEPS: list[Callable[[Any, random.Random], None]] = [
    _select,
    _insert,
    _many,
    _fails,
    _broken,
    _atomic,
    _manual,
    _wrapped,
    _queries_inside,
    _expected,
    _chunked,
    _asynchronous,
    _as_bytes_or_lower,
    _logged,
]

if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
