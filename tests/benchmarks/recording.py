"""What it costs to be recorded.

Empty tests, sequential against one slot: `python -m tests.benchmarks.recording`.
"""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks.common import Timed, alternate, phases, stage
from tests.benchmarks.projects import KINDS, empty_suite

#: The bar: wall time over that of the sequential run.
BAR = 1.15


def main() -> int:
    options = _parser().parse_args()
    with stage() as scene:
        project = empty_suite(scene.base / "project", options.kind, options.classes, options.tests)
        scene.start_workers(project.python, 1, 1)
        parts = []

        def ours() -> Timed:
            timed, report = scene.dct_run(project, "ours", *options.dct)
            parts.append(phases(report))
            return timed

        ours()  # the worker has the code and the bytecode, the store has the timings
        scene.stock(project, "stock")
        print(
            f"{options.classes * options.tests} empty tests, {options.kind}, "
            f"{options.classes} classes, 1 slot"
        )
        walls = alternate(
            options.times,
            {"manage.py test": lambda: scene.stock(project, "stock"), "dct run, 1 slot": ours},
        )
        print("\n".join(f"  {line}" for line in parts[1:]))
    ratio = walls["dct run, 1 slot"] / walls["manage.py test"]
    print(f"ratio {ratio:.3f} (bar {BAR})")
    return int(ratio > BAR)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.recording", description=__doc__
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default="testcase",
        help="TestCase on PostgreSQL or SQLite, SimpleTestCase",
    )
    parser.add_argument("--classes", type=int, default=500)
    parser.add_argument("--tests", type=int, default=10, help="of each class")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument(
        "--dct", action="append", default=[], metavar="OPTION", help="one more option of dct run"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
