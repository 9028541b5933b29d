"""Wires `dct try`: one run after the other in one place, then a bisection of each difference."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dct_celery.bootstrap.again import past_run
from dct_celery.bootstrap.dispatcher import Task, new_request, recognised, run_tests
from dct_celery.core.part import Part
from dct_celery.errors import DctError
from dct_celery.ports.reporting import Reporter
from dct_celery.settings import OUTPUTS, Settings

if TYPE_CHECKING:
    from dct_celery.core.model import Bisection, RunReport
    from dct_celery.dispatcher.past_run import PastRun
    from dct_celery.dispatcher.trial import Difference, Trial

#: Most classes that are bisected: each costs a start of the suite.
_MOST = 12
_FIRST = "1 of 2: all of it in one process on one slot, as the project's own command runs it"
_SECOND = "2 of 2: on all slots"


def try_project(
    settings: Settings,
    origins: Mapping[str, str],
    reporters: Iterable[Reporter],
    interrupted: Callable[[], bool],
) -> Trial:
    """Runs the selection in one process, then on all slots, and compares. Raises DctError.

    One after the other: at the same time each would slow the other down. The second run writes the
    reports that the settings ask for, except `json`, which is the trial's.
    """
    from dct_celery.adapters.source.snapshot import find_root
    from dct_celery.dispatcher.request import require_project
    from dct_celery.dispatcher.trial import Trial, differences, unfinished

    require_project(settings, os.environ)
    reporters = list(reporters)
    usual = replace(settings, failfast=False, maxfail=None, last_failed=False, reruns=0, json=None)
    no_outputs: dict[str, Any] = dict.fromkeys(OUTPUTS)
    quiet = replace(usual, settle=None, run_id=None, **no_outputs)
    outputs = tuple(path for name in OUTPUTS if (path := getattr(settings, name)))
    # Both have the same seeds.
    request = new_request(usual, find_root(Path(settings.project_dir)))
    task = Task(request=request, written=outputs)
    opening = "\n".join(filter(None, (recognised(settings, origins), _FIRST)))
    together = replace(task, part=Part(together=True), opening=opening)
    first = run_tests(quiet, origins, reporters, interrupted, together)
    if unfinished(first):
        return Trial(first, first, (), wall=0.0)
    begun = time.monotonic()
    second = run_tests(usual, origins, reporters, interrupted, replace(task, opening=_SECOND))
    wall = time.monotonic() - begun
    found = differences(first, second)
    if not unfinished(second):

        def bisect(part: Part, opening: str) -> RunReport:
            about = replace(task, part=part, opening=opening)
            return run_tests(quiet, origins, reporters, interrupted, about)

        found = list(
            _explained(found, lambda run: past_run(settings, origins, run), bisect, interrupted)
        )
    return Trial(first, second, tuple(found), wall)


def _explained(
    found: Iterable[Difference],
    past_of: Callable[[str], PastRun],
    bisect: Callable[[Part, str], RunReport],
    interrupted: Callable[[], bool],
) -> Iterator[Difference]:
    """The differences with their causes; of one class, one test stands for all.

    The comparison is there already: whatever happens here, it is shown.
    """
    from dct_celery.dispatcher.bisect import plan_bisection
    from dct_celery.dispatcher.trial import answered

    answers: dict[tuple[str, str], Bisection | str] = {}
    for one in found:
        key = (one.unit, one.run)
        if one.open and key not in answers and len(answers) < _MOST and not interrupted():
            try:
                report = bisect(*plan_bisection(past_of(one.run), one.name))
                answers[key] = report.bisection or report.note or "its tests did not run"
            except DctError as error:
                answers[key] = str(error)
        yield answered(one, answers[key]) if one.open and key in answers else one
