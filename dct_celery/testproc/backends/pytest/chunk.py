"""Runs the tests of a chunk by their indices, in the one session of this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from dct_celery.core.model import Failure, Outcome
from dct_celery.testproc.backends.pytest.reports import Gatherer
from dct_celery.testproc.clock import now
from dct_celery.testproc.failures import describe, failure_of
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire import messages

if TYPE_CHECKING:
    from dct_celery.testproc.backends.pytest.project import PytestProject


class Parking(pytest.Item):
    """Stands for the next test where that is not the next one of the sequential run.

    What pytest tears down behind a test is what the next one is not a part of. Behind the last test
    of a chunk, whatever comes then, that is all but the session: reports are there at once, while
    fixtures of the session live as long as the process.
    """

    def runtest(self) -> None:
        raise AssertionError("it is never run")


def _following(project: PytestProject, index: int, then: Sequence[int]) -> Any:
    """What pytest is told to be the next item. `then`: index of the chunk's next test, if any."""
    if index == len(project.known) - 1:
        return None  # as in the sequential run: this test has the session's tear-down
    if list(then) == [index + 1]:
        return project.item(index + 1)
    # What the sequential run would have torn down on its way to the next test.
    item = project.item(index)
    assert item is not None
    chain: list[Any] = item.listchain()[:-1]
    for between in range(index + 1, then[0] + 1) if then else ():
        if len(chain) == 1:
            break
        other = project.item(between)
        others = [] if other is None else other.listchain()
        chain = [one for one, same in zip(chain, others, strict=False) if one is same]
    place = chain[-1] if then else project.session
    return Parking.from_parent(place, name="dct")


def _failure(item: pytest.Item, error: BaseException, root: str) -> Failure:
    """As pytest shows what a test raises, without the frames of pytest and of this package."""
    try:
        text = str(item.repr_failure(pytest.ExceptionInfo.from_exception(error)))
    except Exception:
        return failure_of(error, root)
    return describe(type(error), error, text, root)


def run_chunk(
    project: PytestProject, indices: Sequence[int], recorder: Recorder, gatherer: Gatherer
) -> messages.ChunkFinished:
    """Runs the chunk to its end, or to the BaseException that ends it early."""
    __tracebackhide__ = True  # no part of what a test fails with
    for position, index in enumerate(indices):
        if not recorder.goes_on(index):
            return recorder.finish(indices[position:], "failfast")
        entry = project.known[index]
        item = project.item(index)
        recorder.begin(entry, index, (entry.cls, entry.module), fixtures=False)
        if item is None:
            recorder.event(Outcome.ERROR, project.collection_failure(index))
            recorder.end(0.0)
            continue
        following = _following(project, index, indices[position + 1 : position + 2])
        gatherer.begin(recorder)
        start = now()
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        except BaseException as error:  # of pytest.exit, an interrupt of its own, or a plugin
            os.environ.pop("PYTEST_CURRENT_TEST", None)
            if isinstance(error, pytest.exit.Exception):
                gatherer.exits(error)
            gatherer.judge()
            recorder.event(Outcome.ERROR, _failure(item, error, recorder.root))
            recorder.end(now() - start, output=gatherer.output(), reports=gatherer.text())
            return recorder.finish(indices[position + 1 :], "aborted")
        seconds = now() - start
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        gatherer.ended(last=position + 1 == len(indices))
        gatherer.judge()
        if gatherer.reported:  # else a hook of the project has left it out
            recorder.started(entry)
        recorder.end(seconds, output=gatherer.output(), reports=gatherer.text())
        if position + 1 == len(indices) or project.known[indices[position + 1]].cls != entry.cls:
            recorder.class_over(entry.cls)
    return recorder.finish()
