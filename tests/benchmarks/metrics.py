"""What counting costs: runs with metrics and with --no-metrics, in pairs.

`python -m tests.benchmarks.metrics [--kind KIND] [--pairs N]` runs a generated project of 5,000
empty tests on one slot, or with `--suite NAME` another suite. Each pair runs both sides, the second
one in the other order. Printed are the busy seconds of the slots, the wall times, and the median of
the ratios within pairs; other work on the machine makes them worthless. Before that: what one
statement pays for each way to count it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.common import Project, Stage, stage
from tests.benchmarks.projects import KINDS, empty_suite
from tests.benchmarks.suites import NAMES, prepare

#: The bar: wall time with metrics over that without.
BAR = 1.02
#: Measured in a process of its own, as nothing takes a hook away again.
_HOOKS = """
import sys, timeit
from django.conf import settings
sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
settings.configure(DATABASES={"default": sqlite})
import django
django.setup()
from django.db import connection
from dct_celery.testproc.django import query_meter
from dct_celery.testproc.meter import Meter

def wrapper(execute, sql, params, many, context):
    began = clock()
    result = execute(sql, params, many, context)
    meter.counts[3] += clock() - began
    meter.counts[0] += 1
    return result

meter, way, clock = Meter(), sys.argv[1], timeit.default_timer
cursor = connection.cursor()
if way == "class":
    query_meter.install(meter)
elif way == "wrapper":
    connection.execute_wrappers.append(wrapper)
elif way == "log":
    connection.force_debug_cursor = True
    cursor = connection.cursor()
ask = lambda: cursor.execute("SELECT 1")
print(min(timeit.repeat(ask, number=20_000, repeat=7)) / 20_000 * 1e6)
"""


def main() -> int:
    options = _parser().parse_args()
    _print_hooks()
    with stage() as scene:
        project = _project(options, scene)
        scene.start_workers(project.python, 1, options.slots)
        sides = {"metrics": (), "no metrics": ("--no-metrics",)}
        walls: dict[str, list[float]] = {side: [] for side in sides}
        busy: dict[str, list[float]] = {side: [] for side in sides}
        queries = 0
        for pair in range(options.pairs + 1):
            for side in sorted(sides, reverse=bool(pair % 2)):
                timed, report = scene.dct_run(project, "counted", *sides[side])
                if timed.code not in (0, 1) or not report.get("tests"):
                    raise SystemExit(f"{side} ended with {timed.code}:\n{timed.log[-5000:]}")
                queries = max(queries, sum(t["metrics"].get("queries", 0) for t in report["tests"]))
                if pair:  # the first one finds nothing prepared
                    walls[side].append(timed.seconds)
                    busy[side].append(sum(slot["busy_seconds"] for slot in report["slots"]))
        count = len(report["tests"])
    print(f"{count:,} tests of {project.name}, {queries:,} queries, {options.slots} slot(s)")
    _print_sides("busy", busy)
    return int(_print_sides("wall", walls) > BAR)


def _print_sides(what: str, sides: dict[str, list[float]]) -> float:
    """Prints both sides; returns the median of the ratios."""
    for side, seconds in sides.items():
        shown = " ".join(f"{one:6.2f}" for one in seconds)
        print(f"{what} {side:<10} {shown}   median {statistics.median(seconds):6.2f} s")
    pairs = zip(sides["metrics"], sides["no metrics"], strict=True)
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"{what} ratio {ratio:.4f} (bar {BAR})", flush=True)
    return ratio


def _print_hooks() -> None:
    """Microseconds of one statement: alone, and counted in each possible way."""
    costs = {way: [_hook(way) for _ in range(3)] for way in ("none", "class", "wrapper", "log")}
    plain = min(costs.pop("none"))
    more = ", ".join(f"{way} +{min(found) - plain:.2f}" for way, found in costs.items())
    print(f"one statement (SQLite) takes {plain:.2f} µs; counted: {more} µs", flush=True)


def _hook(way: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _HOOKS, way], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def _project(options: argparse.Namespace, scene: Stage) -> Project:
    if options.suite is None:
        return empty_suite(scene.base / "project", options.kind, options.classes, options.tests)
    return prepare(options.suite, options.suites, scene.base)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.metrics", description=__doc__
    )
    parser.add_argument("--kind", choices=KINDS, default="testcase")
    parser.add_argument("--classes", type=int, default=500)
    parser.add_argument("--tests", type=int, default=10, help="of each class")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--suite", choices=NAMES, help="another suite instead")
    parser.add_argument("--suites", type=Path, help="folder with the public suites")
    return parser


if __name__ == "__main__":
    sys.exit(main())
