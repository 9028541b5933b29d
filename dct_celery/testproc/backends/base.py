"""The interface between a test framework and everything else: what a backend has to do.

`Backend.load` imports the project and the whole selection, as the framework's own command does, and
hands it on as a `Project`. That happens once in a collect process and once in each loader; every
fork of a loader then serves one slot with its copy of the same object:

    collect process   load ─▶ serve: disconnect ─▶ describe ─▶ entries ─▶ close
    loader            load ─▶ serve: disconnect ─▶ describe ─▶ [migrate_again] ─▶ its forks
    fork              attach ─▶ run … run ─▶ [tear_down] ─▶ close
                                                          to run tests, or
                      build | check | flush | serialize   to make and prove template databases

`serve` returns when the process is about to end. A backend may call it from the inside of its
framework's command, whose frames then stay on the stack while tests run.

The rules:

    1. The same arguments, tree and packages give the same identities in the same order, on every
       machine.
    2. `run` makes one record for each index that it was given, through the recorder, or leaves it
       out and says so in its result, as it does from an index on that `recorder.goes_on` refuses. A
       test is never run twice in one process.
    3. What goes wrong in a test is data, never an exception of `run`.
    4. Nothing is written to the worker except through the recorder; the standard streams belong to
       the tests.

A backend of your own is named `module:attribute` (`--backend`, `[tool.dct] backend`) and is
imported in the project's environment, after the project's folders are on sys.path. Its module may
import this one, `dct_celery.core.model`, `dct_celery.wire.messages` and
`dct_celery.testproc.failures`; the package need not be installed there. `NoDatabases` serves
projects that have no databases.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import dct_celery
from dct_celery.core import backends
from dct_celery.core.model import Entry, Failure
from dct_celery.errors import CollectionError, ConfigError
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire import messages

#: (id, class, phase) of a test; the digest of a manifest is made of these.
Identity = tuple[str, str, str]
#: Type of a message that failed -> reason of the Fatal that reports it.
_REASONS = {
    "Build": "template",
    "MigrateAgain": "template",
    "Check": "checks",
    "RunChunk": "internal",
}


class LoadFailed(Exception):
    """The project could not be loaded; holds the Fatal to send."""

    def __init__(self, fatal: messages.Fatal) -> None:
        super().__init__(fatal.message)
        self.fatal = fatal


@dataclass(frozen=True, slots=True)
class Description:
    """Facts about a project beside its tests; empty where a framework has none."""

    #: The project's own command without the test to run: ("python", "manage.py", "test").
    rerun: tuple[str, ...]
    #: What verdicts depend on beside interpreter and packages, by name: "setting:USE_TZ" and so on.
    environment: dict[str, str] = field(default_factory=dict)
    #: For reports and guards: see wire.messages.Loaded.
    facts: dict[str, str] = field(default_factory=dict)
    #: Databases to make templates and clones of, and every configured one: see
    #: testproc.django.databases.
    databases: list[dict[str, Any]] = field(default_factory=list)
    configured: list[dict[str, Any]] = field(default_factory=list)
    #: Aliases that some test of the selection flushes.
    flushes: list[str] = field(default_factory=list)
    #: Hash of everything in the project that decides the contents of a template (loader only).
    schema: str = ""
    #: host:port/db of every Redis that the project is configured to use.
    redis_in_use: list[str] = field(default_factory=list)
    #: What the sequential run does and a distributed one does not: a clause each, for a warning.
    not_honoured: list[str] = field(default_factory=list)
    #: The project's own receivers of the signals of `migrate`.
    receivers: list[str] = field(default_factory=list)
    #: Id of the test that stands for a module that cannot be imported -> why, in one line.
    unimported: dict[str, str] = field(default_factory=dict)
    #: What the framework has reported while it collected: see wire.messages.Loaded.
    session: str = ""
    #: The arguments say that the run ends after this many failures; 0: they do not.
    maxfail: int = 0
    #: A loader has something to tear down when it ends, and gets the time for it.
    lasting: bool = False
    #: The arguments say that coverage is measured.
    measured: bool = False
    #: Globs below the root: files that plugins write and that come home, by the arguments.
    artifact_paths: list[str] = field(default_factory=list)
    #: File that the project's settings want to keep timings in; empty: none.
    timings_file: str = ""


class Project(Protocol):
    """The user's project with its selection of tests, loaded."""

    def identities(self) -> Sequence[Identity]:
        """One per test, in canonical order: the order of the sequential run."""
        ...

    def entries(self) -> Iterable[Entry]:
        """The manifest; ids, classes and phases are those of `identities`."""
        ...

    def describe(self, packages: dict[str, str]) -> Description:
        """Facts about the project; `packages` is the result of `environment.describe`."""
        ...

    def disconnect(self) -> None:
        """Closes connections that were opened while the project was loaded: they lead to its
        configured databases, and no fork may inherit one. Called once it is loaded, and again
        before the first fork.
        """
        ...

    def migrate_again(self, order: messages.MigrateAgain) -> None:
        """In the loader of a project with `receivers`, when the templates are there: leaves in
        memory what migrating does.
        """
        ...

    def attach(self, order: messages.Attach) -> None:
        """Sets up this fork for tests.

        That is, the databases that the order names, flushed where it says so.
        """
        ...

    def build(self, order: messages.Build) -> None:
        """Creates the template databases and runs the checks that open the sequential run."""
        ...

    def check(self, order: messages.Check) -> None:
        """Runs the same checks on existing databases."""
        ...

    def flush(self, order: messages.Flush) -> str | None:
        """Empties template databases as a transactional test does.

        Returns why the project does not let them be emptied, if so: then every such test is an
        error of its own.
        """
        ...

    def serialize(self, order: messages.Serialize) -> None:
        """Writes the contents of pristine databases to files."""
        ...

    def run(self, indices: Sequence[int], recorder: Recorder) -> messages.ChunkFinished:
        """Runs these tests in this order; returns the result of the recorder's `finish`."""
        ...

    def tear_down(self) -> Sequence[Failure]:
        """Tears down what lives as long as the process does, behind its last chunk; returns what
        went wrong. Called if `session` of the last result of `run` is set, unless the process is
        killed.
        """
        ...

    def failure(self, order: messages.Message, error: BaseException, output: str) -> messages.Fatal:
        """The report of an order that raised `error`, having printed `output`."""
        ...

    def close(self) -> None:
        """Ends the process: tears down what `attach` and `load` have set up."""
        ...


#: Does everything with a loaded project that this process is for.
Serve = Callable[[Project], None]


class Backend(Protocol):
    """A test framework."""

    def load(self, order: messages.Load, serve: Serve) -> None:
        """Loads the project in the current directory and calls `serve` with it, once.

        `order.command` and `order.arguments`: see `Load`. Raises LoadFailed with a message for the
        user if it cannot be loaded.
        """
        ...


class NoDatabases:
    """The part of a `Project` that does nothing where there are no databases."""

    def disconnect(self) -> None: ...

    def migrate_again(self, order: messages.MigrateAgain) -> None: ...

    def attach(self, order: messages.Attach) -> None: ...

    def build(self, order: messages.Build) -> None: ...

    def check(self, order: messages.Check) -> None: ...

    def flush(self, order: messages.Flush) -> None: ...

    def serialize(self, order: messages.Serialize) -> None: ...

    def tear_down(self) -> Sequence[Failure]:
        return ()

    def failure(self, order: messages.Message, error: BaseException, output: str) -> messages.Fatal:
        return failure_of_order(order, error, output)

    def close(self) -> None: ...


def find(name: str) -> Backend:
    """The backend of this name (see core.backends). Raises LoadFailed."""
    module, attribute = backends.location(name)
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        line = f"the backend {name} cannot be imported: {headline(error)}"
        raise LoadFailed(messages.Fatal("backend", line, project_trace(error))) from error
    if not callable(getattr(found, "load", None)):
        line = f"the backend {name} has no method load; see dct_celery.testproc.backends.base"
        raise LoadFailed(messages.Fatal("backend", line))
    backend: Backend = found
    return backend


@contextlib.contextmanager
def failing_as(reason: str) -> Iterator[None]:
    """Turns any exception of the project into a LoadFailed: one line, and the traceback."""
    try:
        yield
    except LoadFailed:
        raise
    except (ConfigError, CollectionError) as error:
        raise LoadFailed(messages.Fatal(reason, str(error))) from error
    except (Exception, SystemExit) as error:
        raise LoadFailed(messages.Fatal(reason, headline(error), project_trace(error))) from error


def failure_of_order(order: messages.Message, error: BaseException, output: str) -> messages.Fatal:
    """The report of an error without special handling: first line, output, traceback."""
    reason = _REASONS.get(order.kind, "database")
    detail = f"{output}\n{''.join(traceback.format_exception(error))}".strip()
    return messages.Fatal(reason, headline(error), detail)


def project_trace(error: BaseException) -> str:
    """The traceback without our own frames at its start: the fault is the project's."""
    ours = os.path.dirname(dct_celery.__file__) + os.sep
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(ours):
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(error), error, tb))


def headline(error: BaseException) -> str:
    """The exception's type and the first line of its message."""
    text = str(error).strip()
    name = type(error).__name__
    return f"{name}: {text.splitlines()[0]}" if text else name
