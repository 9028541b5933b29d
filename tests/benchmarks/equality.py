"""Compares a distributed run with the sequential one, test by test.

`python -m tests.benchmarks.equality --suite NAME`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.common import Project, Stage, Timed, phases, stage
from tests.benchmarks.suites import NAMES, prepare
from tests.support.compare import differences


def main() -> int:
    options = _parser().parse_args()
    with stage(netns=options.netns, mariadb=options.mariadb) as scene:
        checkout = scene.base / "checkout"
        checkout.mkdir()
        project = prepare(
            options.suite, options.suites, checkout, tuple(options.labels), mariadb=options.mariadb
        )
        oracle = _oracle(scene, project, options.oracle)
        hidden = [checkout] if options.netns else []
        scene.start_workers(project.python, options.workers, options.slots, hidden)
        runs = [_compare(scene, project, oracle, options) for _ in range(options.repeat)]
    return int(any(runs))


def _oracle(scene: Stage, project: Project, cache: Path | None) -> Any:
    """The sequential verdicts; run once and kept in `cache` where it is given."""
    path = cache.resolve() if cache else scene.base / "oracle.json"
    if not path.exists():
        timed = scene.oracle(project, "oracle", path)
        if not path.exists():
            raise SystemExit(f"the sequential run failed:\n{timed.log[-5000:]}")
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "seconds": round(timed.seconds, 2)})
        )
    return json.loads(path.read_text())


def _compare(
    scene: Stage, project: Project, oracle: Mapping[str, Any], options: argparse.Namespace
) -> int:
    timed, report = scene.dct_run(project, "ours", *options.dct)
    if not report:
        raise SystemExit(
            f"dct run ended with {timed.code} and without a report:\n{timed.log[-5000:]}"
        )
    different = differences(oracle, report)
    for line in different[: options.show]:
        print(f"  {line}")
    if len(different) > options.show:
        print(f"  and {len(different) - options.show} more\n{timed.log[-1500:]}")
    _print_row(options, oracle, report, timed, len(different))
    if options.log:
        options.log.write_text(timed.log)
    return len(different)


def _print_row(
    options: argparse.Namespace,
    oracle: Mapping[str, Any],
    report: Mapping[str, Any],
    timed: Timed,
    found: int,
) -> None:
    hosts = "network namespaces" if options.netns else "processes"
    server = "MariaDB" if options.mariadb else "PostgreSQL"
    print(
        f"{options.suite} on {server}: {options.slots} slots on {options.workers} workers ({hosts})"
    )
    print(
        f"  sequential {len(oracle['tests']):5} tests, exit {oracle['exit_code']}: "
        f"{_counts(oracle)}; {oracle['seconds']:.1f} s"
    )
    print(
        f"  ours       {len(report['tests']):5} tests, exit {timed.code}: {_counts(report)}; "
        f"{timed.seconds:.1f} s"
    )
    busy = ", ".join(
        f"{s['worker']}/{s['slot']} {s['busy_seconds']:.1f} s in {s['chunks']} chunks"
        for s in report["slots"]
    )
    print(f"  slots      {busy}\n  parts      {phases(report)}\n  differences {found}", flush=True)


def _counts(verdicts: Mapping[str, Any]) -> str:
    counts = Counter(test["outcome"] for test in verdicts["tests"])
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.equality", description=__doc__
    )
    parser.add_argument("labels", nargs="*", help="labels instead of the suite's own")
    parser.add_argument("--suite", choices=NAMES, default="torture")
    parser.add_argument("--suites", type=Path, help="folder with the public suites")
    parser.add_argument("--slots", type=int, default=2, help="of all workers together")
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1)
    parser.add_argument(
        "--netns", action="store_true", help="each worker in a network namespace of its own"
    )
    parser.add_argument("--mariadb", action="store_true", help="on MariaDB instead of PostgreSQL")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--show", type=int, default=40, help="so many differences by name")
    parser.add_argument("--oracle", type=Path, help="file that keeps the sequential verdicts")
    parser.add_argument("--log", type=Path, help="file for the output of dct run")
    parser.add_argument(
        "--dct", action="append", default=[], metavar="OPTION", help="one more option of dct run"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
