"""The collected session of the user's project, as it is forked for every slot."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dct_celery.core.model import Entry, Failure
from dct_celery.testproc.backends.base import (
    Description,
    Identity,
    failing_as,
    failure_of_order,
)
from dct_celery.testproc.backends.pytest import manifest, process
from dct_celery.testproc.backends.pytest.chunk import run_chunk
from dct_celery.testproc.backends.pytest.databases import Databases
from dct_celery.testproc.backends.pytest.once import OnceFixtures
from dct_celery.testproc.backends.pytest.reports import Gatherer, text_of
from dct_celery.testproc.backends.pytest.session_end import SessionFixtures, tear_down
from dct_celery.testproc.django import query_meter
from dct_celery.testproc.failures import cut
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire import messages
from dct_celery.wire.pytest_reports import SessionReports, split_arguments

#: Options without which a test may not be found again, or is another one.
_LASTING = ("--ds", "--dc", "-c", "--config-file", "--rootdir", "--import-mode", "-p", "-o")


class PytestProject:
    """A session whose items are in canonical order."""

    def __init__(
        self,
        session: pytest.Session,
        load: messages.Load,
        reports: SessionReports,
        failures: Sequence[dict[str, Any]],
        *,
        once: OnceFixtures,
        dist: str,
        maxfail: int,
        measured: bool,
        artifact_paths: list[str],
    ) -> None:
        """`failures`: of collectors, where tests run in spite of them; `dist`: xdist's option;
        `maxfail`, `measured`, `artifact_paths`: see `Description`.
        """
        self.session = session
        self._once = once
        self._session_fixtures = SessionFixtures()
        session.config.pluginmanager.register(self._session_fixtures, "dct-session-fixtures")
        self._load = load
        self._reports = reports
        self._failures = failures
        self._databases = Databases.of(session, load)
        self._settled = False
        self._ran = False
        self._gatherer: Gatherer | None = None
        self._maxfail = maxfail
        self._measured = measured
        self._artifact_paths = artifact_paths
        self.known: list[Entry] = list(
            manifest.entries(
                session.items,
                failures,
                root=load.root,
                dist=dist,
                django=self._databases is not None,
            )
        )

    def item(self, index: int) -> pytest.Item | None:
        """None for a collector that failed."""
        position = index - len(self._failures)
        return None if position < 0 else self.session.items[position]

    def collection_failure(self, index: int) -> Failure:
        """What a failed collector has said."""
        text = text_of(self._failures[index]["longrepr"]).replace(f"{self._load.root}/", "")
        line = f"{self._failures[index]['nodeid']} could not be collected"
        return Failure("error", "CollectError", line, cut(text))

    # -- description -------------------------------------------------------------------

    def identities(self) -> list[Identity]:
        return [(entry.id, entry.cls, entry.phase.value) for entry in self.known]

    def entries(self) -> list[Entry]:
        return self.known

    def describe(self, packages: dict[str, str]) -> Description:
        said = Description(
            rerun=_rerun(self._load.arguments),
            facts={"pytest": pytest.__version__},
            session=self._reports.text(self._load.root),
            maxfail=self._maxfail,
            lasting=self._once.lasting,
            measured=self._measured,
            artifact_paths=self._artifact_paths,
        )
        if self._databases is None:
            return said
        with failing_as("settings"):
            return self._databases.describe(said, self.known, packages)

    # -- databases ---------------------------------------------------------------------

    def disconnect(self) -> None:
        if self._databases is not None:
            self._databases.disconnect()

    def migrate_again(self, order: messages.MigrateAgain) -> None:
        if self._databases is not None:
            self._databases.migrate_again(order)

    def attach(self, order: messages.Attach) -> None:
        self._settle()
        if self._databases is not None:
            self._databases.attach(order)

    def build(self, order: messages.Build) -> None:
        self._settle()
        if self._databases is not None:
            self._databases.build(order)

    def check(self, order: messages.Check) -> None:
        """A session of pytest has no system checks."""

    def flush(self, order: messages.Flush) -> str | None:
        self._settle()
        return None if self._databases is None else self._databases.flush(order)

    def serialize(self, order: messages.Serialize) -> None:
        self._settle()
        if self._databases is not None:
            self._databases.serialize(order)

    def failure(self, order: messages.Message, error: BaseException, output: str) -> messages.Fatal:
        if self._databases is not None:
            return self._databases.failure(order, error, output)
        return failure_of_order(order, error, output)

    # -- tests -------------------------------------------------------------------------

    def run(self, indices: Sequence[int], recorder: Recorder) -> messages.ChunkFinished:
        self._settle()
        self._ran = True
        if self._gatherer is None:
            given, _ = split_arguments(self._load.arguments)
            self._gatherer = Gatherer(
                self.session, output_is_read=given is not None and given.added is not None
            )
            self.session.config.pluginmanager.register(self._gatherer, "dct-gatherer")
        if "django.db" in sys.modules:
            query_meter.install(recorder.meter)
        result = run_chunk(self, indices, recorder, self._gatherer)
        return replace(result, session=self._session_fixtures.have_tear_downs())

    def tear_down(self) -> Sequence[Failure]:
        self._ran = False
        return tear_down(self.session, self._load.root)

    def close(self) -> None:
        """Tears down the fixtures of the session, where tests have set some up."""
        if self._ran:
            with contextlib.suppress(Exception):
                self.session._setupstate.teardown_exact(None)
        sys.stdout.flush()

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            self._once.leave_to_the_loader()
            process.settle(self.session)


def _rerun(arguments: Sequence[str]) -> tuple[str, ...]:
    """The command for one test, with the options that lead to it."""
    _, words = split_arguments(arguments)
    kept: list[str] = []
    for position, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name not in _LASTING:
            continue
        kept.append(word)
        if not equals and position + 1 < len(words):
            kept.append(words[position + 1])
    return ("python", "-m", "pytest", *kept)
