"""A suite that spends its clones.

30 % transactional tests, sequential against ours: `python -m tests.benchmarks.transactional`.

Also says how much of the time that clones took was hidden from the slots: made ahead by the worker
while tests ran.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tests.benchmarks.common import Timed, alternate, phases, stage
from tests.benchmarks.projects import transactional_suite

#: The bars: wall time over that of the sequential run on one slot, and the hidden share of clone
#: time.
BAR, HIDDEN = 1.0, 0.9


def main() -> int:
    options = _parser().parse_args()
    with stage() as scene:
        project = transactional_suite(
            scene.base / "project", options.models, options.classes, options.tests, options.share
        )
        scene.start_workers(project.python, 1, options.slots)
        reports: list[dict[str, Any]] = []

        def ours() -> Timed:
            timed, report = scene.dct_run(project, "ours")
            reports.append(report)
            return timed

        ours()  # the worker has code, bytecode and templates, the store has the timings
        scene.stock(project, "stock")
        count = options.classes * options.tests
        print(
            f"{count} tests, {options.share:.0%} transactional, {options.models} tables, "
            f"{options.slots} slots"
        )
        walls = alternate(
            options.times,
            {"manage.py test": lambda: scene.stock(project, "stock"), "dct run": ours},
        )
    for report in reports[1:]:
        print(f"  {phases(report)}  {_clones(report['databases'])}")
    ratio = walls["dct run"] / walls["manage.py test"]
    hidden = min(_hidden(report["databases"]) for report in reports[1:])
    print(
        f"ratio {ratio:.3f} (bar {BAR}); least share of clone time hidden {hidden:.0%} (bar "
        f"{HIDDEN:.0%})"
    )
    return int(ratio > BAR or hidden < HIDDEN)


def _clones(use: dict[str, Any]) -> str:
    return (
        f"cloned {use['cloned']} in {use['clone_seconds']:.3f} s, "
        f"slots waited {use['waited_seconds']:.3f} s"
    )


def _hidden(use: dict[str, Any]) -> float:
    made = use["clone_seconds"] + use["heal_seconds"]
    return 1 - use["waited_seconds"] / made if made else 1.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.transactional", description=__doc__
    )
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--tests", type=int, default=10, help="of each class")
    parser.add_argument(
        "--share", type=float, default=0.3, help="of the classes that are transactional"
    )
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--times", type=int, default=3)
    return parser


if __name__ == "__main__":
    sys.exit(main())
