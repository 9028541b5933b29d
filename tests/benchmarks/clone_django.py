"""The Django side of the clone benchmark, in a process of its own.

Builds databases, clones and dirties them on request.

One JSON object per line on stdin, `{"do": "clone", ...}`, and one per line on stdout, `{"seconds":
...}`. Its settings are those of `clone_scene.project`.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import django

#: Tables that hold rows in the template, and rows of each.
SEEDED, ROWS = 5, 20


def build(name: str, limit: int | None) -> None:
    """A database with the project's tables and some rows, made with MIGRATE: False."""
    from django.core.management import call_command
    from django.db import connection

    suffix = connection.creation.sql_table_creation_suffix() + (
        f" CONNECTION LIMIT {limit}" if limit else ""
    )
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {connection.ops.quote_name(name)} {suffix}")
    _enter(name)
    call_command("migrate", run_syncdb=True, interactive=False, verbosity=0)
    for model in _models()[:SEEDED]:
        model.objects.bulk_create(
            [model(slug=f"seed-{number}", title="seed") for number in range(ROWS)]
        )
    connection.close()


def clone(source: str, suffix: str) -> None:
    """What `test --parallel` does for each worker."""
    from django.db import connection

    _enter(source)
    connection.creation.clone_test_db(suffix=suffix, verbosity=0, autoclobber=True)


def drop(name: str) -> None:
    from django.db import connection

    connection.close()
    connection.creation._destroy_test_db(name, verbosity=0)  # type: ignore[attr-defined]  # its stub lacks it


def dirty(name: str, tables: int) -> None:
    """Leaves rows in so many tables, one of them seeded, as a transactional test does."""
    from django.db import connection

    _enter(name)
    models = _models()
    models[0].objects.filter(slug="seed-0").update(title="changed")
    for model in models[SEEDED - 1 : SEEDED - 1 + tables]:
        model.objects.create(slug=uuid.uuid4().hex, title="left behind")
    connection.close()


def tables(name: str) -> int:
    """How many a database has; a clone of Django's may be empty without an error."""
    from django.db import connection

    _enter(name)
    count = len(connection.introspection.table_names())
    connection.close()
    return count


def _enter(name: str) -> None:
    from django.db import connection

    connection.close()
    connection.settings_dict["NAME"] = name


def _models() -> list[Any]:
    from django.apps import apps

    return sorted(apps.get_models(), key=lambda model: int(model.__name__.removeprefix("Table")))


def main() -> None:
    django.setup()
    steps: dict[str, Callable[..., Any]] = {
        "build": build,
        "clone": clone,
        "drop": drop,
        "dirty": dirty,
        "tables": tables,
    }
    for line in sys.stdin:
        words = json.loads(line)
        start = time.perf_counter()
        answer = steps[words.pop("do")](**words)
        print(json.dumps({"seconds": time.perf_counter() - start, "answer": answer}), flush=True)


if __name__ == "__main__":
    main()
