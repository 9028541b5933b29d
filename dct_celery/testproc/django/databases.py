"""Test databases inside the user's process: described, built, attached, flushed; never chosen here.

Only the lowest level of Django's creation is replaced: `connection.creation.create_test_db` of each
alias returns with its assigned clone. Everything above it (mirrors, serialized contents, the
project's own overrides of setup_databases) runs as written. An alias that the selection does not
set up keeps its configured NAME in Django, production included; here it leads nowhere (a documented
deviation); see `connection_guard`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Protocol

from dct_celery.testproc.django import connection_guard
from dct_celery.testproc.django.migrate_signals import forget_types, own_receivers
from dct_celery.testproc.django.targets import access, where
from dct_celery.testproc.failures import first_line, type_name


class DatabaseUser(Protocol):
    """What a project is asked about its databases here."""

    #: Alias -> whether its contents must be serialized, for the whole selection.
    databases: dict[str, bool]
    #: Django's test runner, or what stands for it: `setup_databases`, `run_checks`, `verbosity`.
    runner: Any

    @property
    def serialized_aliases(self) -> set[str]: ...

    @property
    def overrides_setup(self) -> bool:
        """Its own code around Django's `setup_databases` may leave something in databases."""
        ...


class TemplateReady(BaseException):
    """Leaves a project's setup_databases right after Django's own part.

    What the project adds later is done in each test process.
    """


def connection_of(alias: str) -> Any:
    """The wrapper of an alias, untyped: most of what we touch is private to Django."""
    from django.db import connections

    return connections[alias]


def groups(aliases: Iterable[str]) -> dict[str, list[str]]:
    """Primary alias -> all aliases of the same database, as Django groups them.

    Without mirrors, and without those that have no ENGINE: there is nothing to create.
    """
    from django.db.backends.dummy.base import DatabaseWrapper as NoDatabase
    from django.test.utils import get_unique_databases_and_mirrors

    unique, _ = get_unique_databases_and_mirrors(set(aliases))
    result = {}
    for _, members in unique.values():
        ordered = list(members)
        if not isinstance(connection_of(ordered[0]), NoDatabase):
            result[ordered[0]] = ordered
    return result


def describe(project: DatabaseUser) -> list[dict[str, Any]]:
    """One dict per test database: address, parameters, and the name that Django would give it."""
    from django.conf import settings

    described = []
    for primary, members in groups(project.databases).items():
        described.append(
            {
                **address(primary),
                "aliases": members,
                "serialize": any(project.databases.get(alias) for alias in members),
                # Then a flush leaves more than an empty database.
                "late_flush": project.overrides_setup or bool(own_receivers()),
                "project": str(getattr(settings, "PROJECT_NAME", "") or ""),
            }
        )
    return described


def address(alias: str) -> dict[str, Any]:
    """Where the alias leads, and with what it is opened: a part of `ports.DatabaseSpec`."""
    connection = connection_of(alias)
    needed = access(connection.vendor, connection.settings_dict)
    return {
        "alias": alias,
        "vendor": connection.vendor,
        "host": needed.host,
        "port": needed.port,
        "user": needed.user,
        "password": needed.password,
        "options": needed.options,
        "name": str(connection.settings_dict.get("NAME") or ""),
        "in_memory": _in_memory(connection),
    }


def configured(project: DatabaseUser) -> list[dict[str, Any]]:
    """One dict per configured alias, used or not, for the guards.

    It has the shape of `security.guards.Configured`.
    """
    from django.db import connections

    used = alive(project)
    return [configured_alias(alias, used=alias in used) for alias in connections]


def configured_alias(alias: str, *, used: bool) -> dict[str, Any]:
    """What the guards look at, of one alias."""
    connection = connection_of(alias)
    settings_dict = connection.settings_dict
    test = settings_dict.get("TEST") or {}
    leads = where(connection.vendor, settings_dict)
    return {
        "alias": alias,
        "vendor": connection.vendor,
        "name": _absolute(connection, leads.name),
        # A mirror gets no test database of its own.
        "test_name": "" if test.get("MIRROR") else _absolute(connection, _test_name(connection)),
        "test": (
            any(value not in (None, "") for key, value in test.items() if key != "MIGRATE")
            or test.get("MIGRATE") is False
        ),
        "host": leads.host,
        "port": leads.port,
        "used": used,
        "pinned_by": leads.pinned_by,
    }


def _test_name(connection: Any) -> str:
    """The name that Django would give the test database.

    Empty for a backend that has none (the dummy one of an unset ENGINE).
    """
    try:
        return str(connection.creation._get_test_db_name())
    except (AttributeError, TypeError, NotImplementedError):
        return ""


def _absolute(connection: Any, name: str) -> str:
    """The absolute path of a SQLite file, so that two ways to write it are one name.

    URIs and databases in memory are returned unchanged.
    """
    if connection.vendor != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        return name
    return os.path.abspath(name)


def build(
    project: DatabaseUser, names: dict[str, str], limits: dict[str, int], servers: dict[str, str]
) -> None:
    """Creates and migrates the template databases as Django does, and runs the system checks.

    `names`: primary alias -> name of its template. `limits`: primary alias -> CONNECTION LIMIT that
    its database is created with (PostgreSQL). `servers`: primary alias -> identity of the server
    that it must be on. A SQLite database in memory is built in memory and copied to the file that
    its name gives.
    """
    from django.db import connections

    _guard(project, names, strict=False)
    primaries = groups(project.databases)

    def name_templates() -> None:
        for primary, members in primaries.items():
            for connection in map(connection_of, members):
                if not _in_memory(connection):
                    _name_template(connection, names[primary])

    name_templates()
    for primary, members in primaries.items():
        for connection in map(connection_of, members):
            if primary in limits and connection.vendor == "postgresql":
                connection.creation.sql_table_creation_suffix = _limited(
                    connection.creation, limits[primary]
                )
    for primary, identity in servers.items():
        connection_guard.prove_server(connection_of(primary), identity)
    # Again, as the project's own code around Django's may have added a suffix.
    _stop_after_django(project, before=name_templates)
    project.runner.run_checks(project.databases)
    for primary, path in names.items():
        if _in_memory(connection_of(primary)):
            _copy_memory_to_file(connection_of(primary), path)
    connections.close_all()


def _name_template(connection: Any, name: str) -> None:
    """Has Django create and use the database of this name."""
    connection.settings_dict["TEST"]["NAME"] = name
    if connection.creation._get_test_db_name() != name:  # a backend that makes another of it
        connection.creation._get_test_db_name = lambda: name


def _limited(creation: Any, limit: int) -> Callable[[], str]:
    """A replacement for sql_table_creation_suffix that adds a connection limit.

    The limit marks a database as ours from its first moment.
    """
    original = creation.sql_table_creation_suffix

    def sql_table_creation_suffix() -> str:
        return f"{original()} CONNECTION LIMIT {limit:d}".strip()

    return sql_table_creation_suffix


def check(project: DatabaseUser, names: dict[str, str], servers: dict[str, str]) -> None:
    """Attaches to these databases as Django does and runs the system checks.

    Raises SystemCheckError.
    """
    from django.db import connections

    _point(project, names, {}, servers)
    _stop_after_django(project)
    project.runner.run_checks(project.databases)
    connections.close_all()


def migrate_again(project: DatabaseUser, names: dict[str, str], servers: dict[str, str]) -> None:
    """Runs Django's part of setup_databases on clones of the templates, for what that leaves in
    memory. The databases are not created; `migrate` finds everything done and sends its signals.

    What the project's setup_databases adds is done in each test process. Afterwards this process is
    as little connected as before.
    """
    from django.conf import settings
    from django.db import connections
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.test.utils import NullTimeKeeper, setup_databases  # type: ignore[attr-defined]

    entries = [
        entry
        for alias in connections
        for entry in (settings.DATABASES[alias], connection_of(alias).settings_dict)
    ]
    before = [(entry, entry["NAME"], entry["TEST"]["NAME"]) for entry in entries]
    _guard(project, names, strict=True)
    primaries = groups(project.databases)
    for primary, members in primaries.items():
        for connection in map(connection_of, members):
            if not _in_memory(connection):
                _name_template(connection, names[primary])
        connection_of(primary).creation._create_test_db = _finder(
            connection_of(primary), names[primary], servers.get(primary, "")
        )
    try:
        setup_databases(
            project.runner.verbosity,
            False,
            time_keeper=NullTimeKeeper(),
            aliases=project.databases,
            serialized_aliases=set(),
        )
    finally:
        close_all()
        for connection in map(connection_of, chain(*primaries.values())):
            vars(connection.creation).pop("_get_test_db_name", None)
        for connection in map(connection_of, primaries):
            del connection.creation._create_test_db
            if _in_memory(connection):
                BaseDatabaseWrapper.close(connection)  # Django's own keeps it open
        for entry, name, test_name in before:
            entry["NAME"], entry["TEST"]["NAME"] = name, test_name


def _finder(connection: Any, name: str, identity: str) -> Callable[..., str]:
    """A replacement for the creation of an empty database: finds the one that is there."""

    def _create_test_db(*_: Any, **__: Any) -> str:
        from django.conf import settings

        connection_guard.end_sessions(connection)
        forget_types()
        database_name = str(connection.creation._get_test_db_name())
        settings.DATABASES[connection.alias]["NAME"] = database_name
        connection.settings_dict["NAME"] = database_name
        connection.ensure_connection()
        if _in_memory(connection):
            _copy_file_to_memory(name, connection)
        else:
            connection_guard.prove(connection, name, identity)
        return database_name

    return _create_test_db


def _stop_after_django(project: DatabaseUser, before: Callable[[], object] = lambda: None) -> None:
    """Sets up as the project does, as far as Django's own part; `before` comes right before it."""
    import django.test.runner
    import django.test.utils

    places: list[tuple[Any, str]] = [
        (django.test.utils, "setup_databases"),
        (django.test.runner, "_setup_databases"),
    ]
    original: Any = django.test.utils.setup_databases

    def setup_then_stop(*args: Any, **kwargs: Any) -> None:
        # Contents are serialized later, from the finished template.
        kwargs["serialized_aliases"] = set()
        before()
        original(*args, **kwargs)
        raise TemplateReady

    for module, name in places:
        setattr(module, name, setup_then_stop)
    try:
        project.runner.setup_databases(aliases=project.databases, serialized_aliases=set())
    except TemplateReady:
        return
    finally:
        for module, name in places:
            setattr(module, name, original)
    if project.databases:
        raise RuntimeError(
            f"{type(project.runner).__qualname__}.setup_databases never calls Django's "
            "setup_databases, so there is no template to clone from"
        )


def attach(
    project: DatabaseUser,
    names: dict[str, str],
    serialized: dict[str, str],
    servers: dict[str, str],
) -> Any:
    """Points every alias of the selection at its clone through the project's own setup_databases.

    Returns the old configuration for `teardown_databases`. Raises WrongDatabase when, after all of
    the project's own code, some alias leads elsewhere.
    """
    _point(project, names, serialized, servers)
    old = project.runner.setup_databases(
        aliases=project.databases,
        serialized_aliases=project.serialized_aliases if serialized else set(),
    )
    connection_guard.prove_settings(project.runner)
    for primary, name in names.items():
        if _in_memory(connection_of(primary)):
            connection_guard.prove_in_memory(connection_of(primary))
        else:
            connection_guard.prove(connection_of(primary), name)
    return old


def _point(
    project: DatabaseUser,
    names: dict[str, str],
    serialized: dict[str, str],
    servers: dict[str, str],
) -> None:
    """Replaces creating and destroying the databases of every alias by attaching and closing."""
    from django.db import connections

    _guard(project, names, strict=True)
    for primary, members in groups(project.databases).items():
        creation = connection_of(primary).creation
        creation.create_test_db = _attacher(
            connection_of(primary), names[primary], servers.get(primary, ""), members
        )
        creation.serialize_db_to_string = _reader(serialized.get(primary))
    for alias in connections:
        connection_of(alias).creation.destroy_test_db = _closer(connection_of(alias))


def _guard(project: DatabaseUser, names: dict[str, str], *, strict: bool) -> None:
    """Makes every alias that is set up lead to its database only, and all others nowhere."""
    from django.db import connections

    connection_guard.install(_given(project, names), strict=strict)
    connection_guard.poison(set(connections) - alive(project))


def _given(project: DatabaseUser, names: dict[str, str]) -> dict[str, str]:
    """Alias -> name, also for members of a group and for mirrors.

    Databases in memory are left out: each belongs to its process.
    """
    from django.test.utils import get_unique_databases_and_mirrors

    given = {
        alias: names[primary]
        for primary, members in groups(project.databases).items()
        if not _in_memory(connection_of(primary))
        for alias in members
    }
    _, mirrors = get_unique_databases_and_mirrors(set(project.databases))
    return given | {alias: given[primary] for alias, primary in mirrors.items() if primary in given}


def _attacher(
    connection: Any, name: str, identity: str, members: Iterable[str]
) -> Callable[..., str]:
    """A replacement for create_test_db.

    It leaves the same state behind, without creating or migrating anything. `members`: all aliases
    of the database.
    """

    def create_test_db(*_: Any, **__: Any) -> str:
        from django.conf import settings

        connection_guard.end_sessions(connection)
        in_memory = _in_memory(connection)
        database_name: str = connection.creation._get_test_db_name() if in_memory else name
        settings.DATABASES[connection.alias]["NAME"] = database_name
        connection.settings_dict["NAME"] = database_name
        forget_types()
        if not in_memory:
            for alias in members:
                _name_test_database(alias, database_name)
        connection.ensure_connection()
        if in_memory:
            _copy_file_to_memory(name, connection)
        else:
            connection_guard.prove(connection, name, identity)
        if os.environ.get("RUNNING_DJANGOS_TEST_SUITE") == "true":
            connection.creation.mark_expected_failures_and_skips()
        return database_name

    return create_test_db


def _name_test_database(alias: str, name: str) -> None:
    """Makes a TEST NAME that the project has set the clone's: processes that tests start compute
    their database from it. Where there is none, none is made up.
    """
    from django.conf import settings

    for data in (settings.DATABASES[alias], connection_of(alias).settings_dict):
        if data["TEST"]["NAME"]:
            data["TEST"]["NAME"] = name


def _reader(path: str | None) -> Callable[[], str]:
    def serialize_db_to_string() -> str:
        if path is None:
            return "[]"
        with open(path, encoding="utf-8") as file:
            return file.read()

    return serialize_db_to_string


def _closer(connection: Any) -> Callable[..., None]:
    def destroy_test_db(*_: Any, **__: Any) -> None:
        connection.close()

    return destroy_test_db


def flush(aliases: Iterable[str]) -> str:
    """Empties the databases like the tear-down of a TransactionTestCase, signals included.

    Returns why that fails for the sake of the project's schema or receivers, or "". Then each such
    tear-down fails in the sequential run as well, is the error of its test, and leaves what this
    one has left. An error that may be the server's is raised.
    """
    from django.core.management import call_command
    from django.db import InterfaceError, OperationalError

    failed = ""
    for alias in aliases:
        try:
            call_command(
                "flush",
                verbosity=0,
                interactive=False,
                database=alias,
                reset_sequences=False,
                allow_cascade=False,
                inhibit_post_migrate=False,
            )
        except Exception as error:
            causes = (error, error.__cause__)
            if any(isinstance(one, (OperationalError, InterfaceError)) for one in causes):
                raise
            failed = failed or f"{type_name(type(error))}: {first_line(error)}"
    return failed


def flush_template(
    project: DatabaseUser, names: dict[str, str], aliases: Iterable[str], servers: dict[str, str]
) -> str:
    """Flushes template databases, and copies those in memory back to their files.

    Returns why they cannot be flushed, see `flush`.
    """
    from django.db import connections

    attach(project, names, {}, servers)
    failed = flush(aliases)
    for primary, path in names.items():
        if _in_memory(connection_of(primary)):
            _copy_memory_to_file(connection_of(primary), path)
    connections.close_all()
    return failed


def serialize(
    project: DatabaseUser, names: dict[str, str], files: dict[str, str], servers: dict[str, str]
) -> None:
    """Writes what `_test_serialized_contents` would hold after creation, a file per primary alias.

    Django reads it at the end of its own part, before a project's setup_databases goes on.
    """
    from django.db import connections
    from django.db.backends.base.creation import BaseDatabaseCreation

    _point(project, names, {}, servers)
    _stop_after_django(project)
    for alias, path in files.items():
        contents = BaseDatabaseCreation.serialize_db_to_string(connections[alias].creation)
        with open(f"{path}.tmp", "w", encoding="utf-8") as file:
            file.write(contents)
        os.replace(f"{path}.tmp", path)
    connections.close_all()


def _in_memory(connection: Any) -> bool:
    if connection.vendor != "sqlite":
        return False
    return bool(connection.creation.is_in_memory_db(connection.creation._get_test_db_name()))


def _copy_memory_to_file(connection: Any, path: str) -> None:
    connection.ensure_connection()
    temporary = f"{path}.tmp"
    with sqlite3.connect(temporary) as target:
        connection.connection.backup(target)
    target.close()
    os.replace(temporary, path)


def _copy_file_to_memory(path: str, connection: Any) -> None:
    with sqlite3.connect(path) as source:
        source.backup(connection.connection)
    source.close()


def alive(project: DatabaseUser) -> set[str]:
    """Aliases that a run sets up: those of the selection, and mirrors of them.

    A mirror whose primary is not set up is left out, even if the selection names it: Django would
    point it at the database that the primary is configured for.
    """
    from django.db import connections
    from django.test.utils import get_unique_databases_and_mirrors

    _, mirrors = get_unique_databases_and_mirrors(set(project.databases))
    return {alias for alias in connections if mirrors.get(alias, alias) in project.databases}


def close_all() -> None:
    """Ends every session, also those in pools: a fork must not inherit them."""
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        connection_guard.end_sessions(connection)
