"""The user's project as its own command has loaded it: runner, test environment, suite."""

from __future__ import annotations

import os
import unittest
from collections.abc import Iterator, Sequence
from typing import Any

from dct_celery.core.model import Entry, Failure
from dct_celery.testproc import coverage
from dct_celery.testproc.backends.base import Description, Identity, failing_as, failure_of_order
from dct_celery.testproc.backends.django_unittest import manifest
from dct_celery.testproc.backends.django_unittest.chunk import run_chunk
from dct_celery.testproc.django import (
    check_memory,
    connection_guard,
    databases,
    fast_flush,
    migrate_signals,
    query_meter,
    sqlite_memory,
    surroundings,
    template_key,
)
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire import messages

#: Runner methods that drive a whole sequential run; here, chunks are run one by one instead. Of
#: run_tests, what comes before setup_databases is run.
_DRIVERS = ("run_suite", "suite_result")


class DjangoProject:
    """Runner and suite of the project. `tests` is the flattened suite in canonical order."""

    def __init__(
        self, runner: Any, suite: Any, load: messages.Load, rerun: tuple[str, ...]
    ) -> None:
        """`rerun`: see `Description`."""
        from django.test.utils import iter_test_cases  # type: ignore[attr-defined]

        self.runner = runner
        #: Top of the tree that the project is part of.
        self.root = load.root
        self.tests: list[unittest.TestCase] = list(iter_test_cases(suite))
        #: alias -> whether its contents must be serialized, for the whole selection, not for a
        #: chunk.
        self.databases: dict[str, bool] = runner.get_databases(suite)
        self._load = load
        self._rerun = rerun
        #: The result of setup_databases, for the tear-down.
        self._old_config: Any = None

    @property
    def serialized_aliases(self) -> set[str]:
        return {alias for alias, serialize in self.databases.items() if serialize}

    @property
    def overrides_setup(self) -> bool:
        from django.test.runner import DiscoverRunner

        return type(self.runner).setup_databases is not DiscoverRunner.setup_databases

    # -- description -------------------------------------------------------------------

    def identities(self) -> list[Identity]:
        return manifest.identities(self.tests)

    def entries(self) -> Iterator[Entry]:
        return manifest.entries(self.tests, self.root)

    def describe(self, packages: dict[str, str]) -> Description:
        with failing_as("settings"):
            described, configured = databases.describe(self), databases.configured(self)
            timings_file = surroundings.timings_file()
        load = self._load
        depends = [os.path.join(load.directory, glob) for glob in load.template_depends]
        return Description(
            rerun=self._rerun,
            environment=surroundings.settings_facts(self.root),
            facts=surroundings.facts(),
            databases=described,
            configured=configured,
            flushes=manifest.flushed_aliases(self.tests),
            schema="" if load.collect_only else template_key.fingerprint(self, packages, depends),
            redis_in_use=surroundings.redis_in_use(),
            not_honoured=self._not_honoured(),
            receivers=migrate_signals.own_receivers(),
            unimported=manifest.unimported(self.tests),
            timings_file=timings_file,
        )

    def _not_honoured(self) -> list[str]:
        """Overridden runner methods that never run here, and coverage that the command began."""
        from django.test.runner import DiscoverRunner

        cls = type(self.runner)
        clauses = [
            f"{cls.__qualname__}.{name} is overridden, but a distributed run does not call it"
            for name in _DRIVERS
            if getattr(cls, name, None) is not getattr(DiscoverRunner, name)
        ]
        if not self._load.coverage and coverage.measured_by_others():
            clauses.append(
                "the project's command measures coverage, but a distributed run collects no data of"
                " it: give --coverage instead"
            )
        return clauses

    # -- databases ---------------------------------------------------------------------

    def disconnect(self) -> None:
        databases.close_all()

    def migrate_again(self, order: messages.MigrateAgain) -> None:
        databases.migrate_again(self, order.databases, order.servers)

    def attach(self, order: messages.Attach) -> None:
        if self._load.fork_order and migrate_signals.own_receivers():
            # No loader has done it for this process.
            databases.migrate_again(self, order.databases, order.servers)
        sqlite_memory.install()
        self._old_config = databases.attach(self, order.databases, order.serialized, order.servers)
        check_memory.as_after_checks(self.runner)
        fast_flush.install()
        databases.flush(order.flush)
        migrate_signals.as_after_flush(order.flushed)

    def build(self, order: messages.Build) -> None:
        databases.build(self, order.databases, order.limits, order.servers)

    def check(self, order: messages.Check) -> None:
        databases.check(self, order.databases, order.servers)

    def flush(self, order: messages.Flush) -> str:
        return databases.flush_template(self, order.databases, order.aliases, order.servers)

    def serialize(self, order: messages.Serialize) -> None:
        databases.serialize(self, order.databases, order.files, order.servers)

    # -- tests -------------------------------------------------------------------------

    def run(self, indices: Sequence[int], recorder: Recorder) -> messages.ChunkFinished:
        query_meter.install(recorder.meter)
        return run_chunk(self, indices, recorder)

    def failure(self, order: messages.Message, error: BaseException, output: str) -> messages.Fatal:
        """Adds what Django printed: its creation code prints the reason before it exits."""
        from django.core.management.base import SystemCheckError
        from django.db import InterfaceError, OperationalError

        if isinstance(error, SystemCheckError):
            return messages.Fatal("checks", "SystemCheckError: the system check failed", str(error))
        if isinstance(error, connection_guard.WrongDatabase):
            return messages.Fatal("elsewhere", str(error), output.strip())
        fatal = failure_of_order(order, error, output)
        if isinstance(error, SystemExit):
            said = output.strip().splitlines()
            first = said[-1] if said else "the database creation code exited"
            return messages.Fatal(fatal.reason, f"SystemExit: {first}", fatal.detail)
        if fatal.reason == "checks" and isinstance(error, (OperationalError, InterfaceError)):
            # Checks use the database, but here the database failed, not the checks.
            return messages.Fatal("database", fatal.message, fatal.detail)
        return fatal

    def tear_down(self) -> Sequence[Failure]:
        """Nothing lives longer than a module."""
        return ()

    def close(self) -> None:
        """Does what the sequential run does at its end."""
        if self._old_config is not None:
            self.runner.teardown_databases(self._old_config)
        self.runner.teardown_test_environment()
