"""Django's own tests, 2 processes against 2 slots.

`python -m tests.benchmarks.django_subset --suites FOLDER`
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.benchmarks.common import Timed, alternate, phases, stage
from tests.benchmarks.suites import prepare

#: The bar: wall time over that of `--parallel`.
BAR = 1.0
_BOTH = frozenset({0, 1})


def main() -> int:
    options = _parser().parse_args()
    with stage() as scene:
        project = prepare("django", options.suites, scene.base, tuple(options.labels))
        scene.start_workers(project.python, 1, options.slots)
        parts = []

        def ours() -> Timed:
            timed, report = scene.dct_run(project, "ours", *options.dct)
            parts.append(f"exit {timed.code}  {phases(report)}")
            return timed

        ours()  # timings, code and bytecode are there from now on
        sides = {
            f"--parallel {options.slots}": lambda: scene.stock(
                project, "stock", "--parallel", str(options.slots)
            ),
            f"dct run, {options.slots} slots": ours,
        }
        print(" ".join(project.labels))
        theirs, mine = alternate(options.times, sides, _BOTH).values()
        print("\n".join(f"  {line}" for line in parts))
    print(f"ratio {mine / theirs:.3f} (bar {BAR})")
    return int(mine / theirs > BAR)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.django_subset", description=__doc__
    )
    parser.add_argument("labels", nargs="*", help="labels instead of the default ones")
    parser.add_argument("--suites", type=Path, required=True, help="folder with the public suites")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument(
        "--dct", action="append", default=[], metavar="OPTION", help="one more option of dct run"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
