"""Runs the tests of a chunk by their indices, in the one session of this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from dct_celery.core.model import FixturePhase, FixtureRef, FixtureScope, Outcome
from dct_celery.testproc.backends.pytest.reports import Gatherer
from dct_celery.testproc.clock import now
from dct_celery.testproc.failures import failure_of
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire import messages

if TYPE_CHECKING:
    from dct_celery.testproc.backends.pytest.project import PytestProject

#: Blamed for what fails outside of any test.
_OUTSIDE = FixtureRef(FixturePhase.TEAR_DOWN, FixtureScope.SESSION, "pytest")


class Parking(pytest.Item):
    """Stands for the test that comes after a chunk, whatever it will be.

    Its only collector is the session: all narrower scopes are torn down behind the chunk's last
    test, with a report at once, while fixtures of the session live as long as the process.
    """

    def runtest(self) -> None:
        raise AssertionError("it is never run")


def run_chunk(
    project: PytestProject, indices: Sequence[int], recorder: Recorder, gatherer: Gatherer
) -> messages.ChunkFinished:
    """Runs the chunk to its end, or to the BaseException that ends it early."""
    parking = Parking.from_parent(project.session, name="dct")
    for position, index in enumerate(indices):
        if not recorder.goes_on(index):
            return recorder.finish(indices[position:], "failfast")
        entry = project.known[index]
        item = project.item(index)
        recorder.begin(entry, index, (entry.cls, entry.module), fixtures=False)
        recorder.started(entry)
        if item is None:
            recorder.event(Outcome.ERROR, project.collection_failure(index))
            recorder.end(0.0)
            continue
        following: Any = parking
        if index == len(project.known) - 1:
            following = None  # as in the sequential run: this test has the session's tear-down
        elif position + 1 < len(indices):
            following = project.item(indices[position + 1]) or parking
        gatherer.begin(recorder.root)
        start = now()
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        except BaseException as error:  # of pytest.exit, an interrupt of its own, or a plugin
            gatherer.judge(recorder)
            recorder.event(Outcome.ERROR, failure_of(error, recorder.root))
            recorder.end(now() - start, output=gatherer.output(), reports=gatherer.text())
            return recorder.finish(indices[position + 1 :], "aborted")
        seconds = now() - start
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        gatherer.judge(recorder)
        recorder.end(seconds, output=gatherer.output(), reports=gatherer.text())
        if position + 1 == len(indices) or project.known[indices[position + 1]].cls != entry.cls:
            recorder.class_over(entry.cls)
    return recorder.finish()
