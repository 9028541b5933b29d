"""The databases of a session with pytest-django, through the fixtures that set them up.

`testproc.django.databases` asks a project for Django's test runner. Here the runner's
`setup_databases` is the fixture `django_db_setup`, as the project has it: with its own overrides of
that and of the fixtures that it uses. It is set up before the first test, stays with the session,
and tests find it done. pytest-django blocks databases outside of tests; all that happens here is
done with the blocker open.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Self

import pytest

from dct_celery.core.model import Entry
from dct_celery.testproc.backends.base import Description, failure_of_order
from dct_celery.testproc.backends.pytest import manifest
from dct_celery.testproc.backends.pytest.once import enter, set_up_fixture
from dct_celery.testproc.django import (
    connection_guard,
    databases,
    fast_flush,
    migrate_signals,
    sqlite_memory,
    surroundings,
    template_key,
)
from dct_celery.wire import messages

_FIXTURE = "django_db_setup"


class Databases:
    """Those of one session. Shaped as `testproc.django.template_key.Keyed`."""

    def __init__(self, session: pytest.Session, load: messages.Load) -> None:
        self.root = load.root
        self.databases = manifest.needed_databases(session.items)
        self.runner: Any = _FixtureRunner(session)
        self._session = session
        self._load = load

    @classmethod
    def of(cls, session: pytest.Session, load: messages.Load) -> Self | None:
        """None where the session has no pytest-django, or that has no settings."""
        if not session.config.pluginmanager.hasplugin("django"):
            return None
        from pytest_django.lazy_django import django_settings_is_configured

        return cls(session, load) if django_settings_is_configured() else None

    @property
    def serialized_aliases(self) -> set[str]:
        return {alias for alias, serialize in self.databases.items() if serialize}

    @property
    def overrides_setup(self) -> bool:
        return bool(self.runner.overrides())

    def describe(
        self, said: Description, entries: Iterable[Entry], packages: dict[str, str]
    ) -> Description:
        """What was said of the session, and all about Django."""
        load = self._load
        depends = [os.path.join(load.directory, glob) for glob in load.template_depends]
        schema = ""
        if not load.collect_only:
            schema = template_key.fingerprint(self, packages, depends)
            schema = self._with_fixtures(schema)
        flushed = {alias for one in entries if one.flushes for alias in one.databases}
        return replace(
            said,
            environment=surroundings.settings_facts(self.root),
            facts={**surroundings.facts(), **said.facts},
            databases=databases.describe(self),
            configured=databases.configured(self),
            flushes=sorted(flushed),
            schema=schema,
            redis_in_use=surroundings.redis_in_use(),
            receivers=migrate_signals.own_receivers(),
            timings_file=surroundings.timings_file(),
        )

    def _with_fixtures(self, schema: str) -> str:
        """The key, with what decides about migrations beside them."""
        config = self._session.config
        parts = [schema, str(bool(config.getoption("nomigrations", False)))]
        for name in ("django_db_use_migrations", "django_db_modify_db_settings"):
            parts += [_source(fixture) for fixture in self.runner.overrides(name)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    # -- what a fork is told to do -----------------------------------------------------

    def disconnect(self) -> None:
        databases.close_all()

    def migrate_again(self, order: messages.MigrateAgain) -> None:
        with self._open():
            self._migrate_again(order.databases, order.servers)

    def _migrate_again(self, names: dict[str, str], servers: dict[str, str]) -> None:
        if self._session.config.getoption("nomigrations", False):
            from pytest_django.fixtures import _disable_migrations

            _disable_migrations()  # as the fixture does, for as long as the process lives
        databases.migrate_again(self, names, servers)

    def attach(self, order: messages.Attach) -> None:
        with self._open():
            if self._load.fork_order and migrate_signals.own_receivers():
                # No loader has done it for this process.
                self._migrate_again(order.databases, order.servers)
            sqlite_memory.install()
            databases.attach(self, order.databases, order.serialized, order.servers)
            fast_flush.install()
            databases.flush(order.flush)
            migrate_signals.as_after_flush(order.flushed)

    def build(self, order: messages.Build) -> None:
        with self._open():
            databases.build(self, order.databases, order.limits, order.servers)

    def flush(self, order: messages.Flush) -> str:
        with self._open():
            return databases.flush_template(self, order.databases, order.aliases, order.servers)

    def serialize(self, order: messages.Serialize) -> None:
        with self._open():
            databases.serialize(self, order.databases, order.files, order.servers)

    def failure(self, order: messages.Message, error: BaseException, output: str) -> messages.Fatal:
        if isinstance(error, connection_guard.WrongDatabase):
            return messages.Fatal("elsewhere", str(error), output.strip())
        return failure_of_order(order, error, output)

    def _open(self) -> contextlib.AbstractContextManager[Any]:
        from pytest_django.plugin import blocking_manager_key

        opened: contextlib.AbstractContextManager[Any] = self._session.config.stash[
            blocking_manager_key
        ].unblock()
        return opened


class _FixtureRunner:
    """Stands for Django's test runner."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self.verbosity = session.config.option.verbose
        #: The first test that needs a database: the project's fixtures are looked up from it.
        self._item = next((item for item in session.items if manifest.databases_of(item)), None)

    def overrides(self, name: str = _FIXTURE) -> list[Any]:
        """The project's own definitions of a fixture of pytest-django."""
        if self._item is None:
            return []
        manager: Any = self._session._fixturemanager
        found = manager.getfixturedefs(name, self._item) or ()
        return [one for one in found if not one.func.__module__.startswith("pytest_django")]

    def setup_databases(self, *, aliases: object, serialized_aliases: object) -> None:
        """Sets up the fixture; it knows aliases by itself.

        What a project's own fixture raises once Django's part is done, stays in pytest's cache of
        the fixture: each test that needs it fails with it, as in the sequential run.
        """
        if self._item is None:
            return
        import django.test.utils

        enter(self._session)
        original: Any = django.test.utils.setup_databases
        done: list[object] = []

        def setup_databases(*args: Any, **kwargs: Any) -> Any:
            made = original(*args, **kwargs)
            done.append(made)
            return made

        django.test.utils.setup_databases = setup_databases
        try:
            set_up_fixture(self._item, _FIXTURE)
        except Exception:
            if not done:
                raise
        finally:
            if django.test.utils.setup_databases is setup_databases:
                django.test.utils.setup_databases = original

    def run_checks(self, aliases: object) -> None:
        """A session of pytest has no system checks."""


def _source(fixture: Any) -> str:
    """The code that a fixture consists of, as far as it is known."""
    code = getattr(fixture.func, "__code__", None)
    return "" if code is None else f"{code.co_code.hex()} {code.co_consts!r} {code.co_names!r}"
