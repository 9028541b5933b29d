"""A test framework of one page, without Django.

Functions called `check_…` in the modules that its arguments name.

A module's `set_up` runs before its first function, its `tear_down` after its last one.
AssertionError is a failure, any other exception an error. As a command, `python plain_backend.py
MODULE[.FUNCTION] …` runs them one after the other and prints an outcome for each: that is the
sequential run. As a backend it is `plain_backend:BACKEND`, for which a project has a copy of this
file.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dct_celery.core.model import Entry
    from dct_celery.testproc.backends.base import Backend, Description, Project, Serve
    from dct_celery.testproc.recorder import Recorder
    from dct_celery.wire import messages


@dataclass(frozen=True)
class Check:
    module: ModuleType
    function: Callable[[], object]

    @property
    def id(self) -> str:
        return f"{self.module.__name__}.{self.function.__name__}"


def select(arguments: Sequence[str]) -> list[Check]:
    """In the order of the arguments, and within a module in that of its lines.

    Raises ImportError, AttributeError.
    """
    found = []
    for word in arguments:
        name, _, function = word.partition(".")
        module = importlib.import_module(name)
        names = (
            [function] if function else [each for each in vars(module) if each.startswith("check_")]
        )
        found += [Check(module, getattr(module, each)) for each in names]
    return found


def outcome_of(call: Callable[[], object]) -> tuple[str, Exception | None]:
    try:
        call()
    except AssertionError as error:
        return "failed", error
    except Exception as error:
        return "error", error
    return "passed", None


def main(arguments: Sequence[str]) -> int:
    """The sequential run."""
    bad, ready, module = 0, True, None
    for check in select(arguments):
        if check.module is not module:
            module = check.module
            ready = outcome_of(getattr(module, "set_up", bool))[0] == "passed"
            bad += not ready
        outcome = outcome_of(check.function)[0] if ready else "not_run"
        bad += outcome in ("failed", "error")
        print(f"{check.id} {outcome}")
    return int(bad > 0)


class PlainBackend:
    def load(self, order: messages.Load, serve: Serve) -> None:
        from dct_celery.testproc.backends.base import failing_as

        with failing_as("labels"):
            project = _project(select(order.arguments), order.root)
        serve(project)


BACKEND: Backend = PlainBackend()


def _project(checks: list[Check], root: str) -> Project:
    # A function, because this file is a command as well, for which the base class is not there.
    from dct_celery.core.model import Entry, FixturePhase, FixtureRef, FixtureScope, Outcome, Phase
    from dct_celery.testproc.backends.base import Description, Identity, NoDatabases
    from dct_celery.testproc.clock import now
    from dct_celery.testproc.failures import failure_of

    class PlainProject(NoDatabases):
        def identities(self) -> list[Identity]:
            return [(check.id, check.module.__name__, Phase.NO_DATABASE.value) for check in checks]

        def entries(self) -> Iterator[Entry]:
            for index, check in enumerate(checks):
                module = check.module.__name__
                file = os.path.relpath(check.module.__file__ or "", root)
                line = check.function.__code__.co_firstlineno
                keep = (f"module:{module}",)
                yield Entry(
                    index, check.id, module, module, Phase.NO_DATABASE, file, line, keep_with=keep
                )

        def describe(self, packages: dict[str, str]) -> Description:
            return Description(rerun=("python", "plain_backend.py"))

        def run(self, indices: Sequence[int], recorder: Recorder) -> messages.ChunkFinished:
            module: Any = None
            ready = True
            for position, (index, following) in enumerate(
                zip(indices, [*indices[1:], None], strict=True)
            ):
                if not recorder.goes_on(index):
                    return recorder.finish(indices[position:])
                check, first = checks[index], checks[index].module is not module
                module = check.module
                recorder.begin(check, index, (module.__name__,), fixtures=first)
                if first:
                    ready = self._fixture(FixturePhase.SET_UP, module, recorder)
                    recorder.fixture(None)
                start = now()
                if ready:
                    recorder.started(check)
                    outcome, error = outcome_of(check.function)
                    if error is not None:
                        kind = "failure" if outcome == "failed" else "error"
                        recorder.event(
                            Outcome(outcome), failure_of(error, recorder.root, kind=kind)
                        )
                recorder.end(now() - start)
                if following is None or checks[following].module is not module:
                    recorder.flush()
                    self._fixture(FixturePhase.TEAR_DOWN, module, recorder)
                    recorder.class_over(module.__name__)
            return recorder.finish()

        def _fixture(self, phase: FixturePhase, module: ModuleType, recorder: Recorder) -> bool:
            fixture = FixtureRef(phase, FixtureScope.MODULE, module.__name__)
            recorder.fixture(fixture)
            outcome, error = outcome_of(
                getattr(module, "set_up" if fixture.sets_up else "tear_down", bool)
            )
            if error is not None:
                recorder.fixture_finished(
                    fixture, Outcome(outcome), failure_of(error, recorder.root)
                )
            return error is None

    return PlainProject()


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    sys.exit(main(sys.argv[1:]))
