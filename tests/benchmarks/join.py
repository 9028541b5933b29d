"""How soon a worker that joins a run is used: `python -m tests.benchmarks.join`.

The first claim is read from the dispatcher's journal: the ids of its entries are milliseconds of
the store's clock, which is this machine's.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.common import Stage, stage
from tests.benchmarks.projects import sleeping_suite

#: The bar: seconds from the registration to the first claim.
BAR = 2.0


def main() -> int:
    options = _parser().parse_args()
    waits = []
    for _ in range(options.times):
        with stage() as scene:
            waits.append(_join(scene, options.seconds))
    print(f"longest from registration to first claim {max(waits):.2f} s (bar {BAR} s)")
    return int(max(waits) > BAR)


def _join(scene: Stage, seconds: float) -> float:
    """Seconds from the second worker's registration to its first claim; printed, too."""
    project = sleeping_suite(scene.base / "project", round(seconds / 0.25), 0.25)
    scene.start_workers(project.python, 1, 1)
    done: list[Any] = []
    run = threading.Thread(target=lambda: done.append(scene.dct_run(project, "join")))
    run.start()
    _wait_for_claim(scene, seconds)
    time.sleep(seconds / 5)
    started = scene.start_worker("build-b", project.python, 1)
    registered = scene.wait_for(2)
    run.join()
    claimed = _first_claim(scene, "build-b")
    timed, report = done[0]
    tests = sum(str(test["worker"]).startswith("build-b") for test in report["tests"])
    print(
        f"run of {timed.seconds:.1f} s, exit {timed.code}: "
        f"first claim {claimed - registered:.2f} s after registration, "
        f"{claimed - started:.2f} s after the start of its process; "
        f"it ran {tests} of {len(report['tests'])} tests",
        flush=True,
    )
    return claimed - registered


def _wait_for_claim(scene: Stage, patience: float) -> None:
    deadline = time.monotonic() + patience + 60
    while not any(_claims(scene)):
        if time.monotonic() > deadline:
            raise SystemExit("the run never began")
        time.sleep(0.05)


def _first_claim(scene: Stage, worker: str) -> float:
    """Unix time of the worker's first claim."""
    found = [entry for entry in _claims(scene) if entry["w"].startswith(worker)]
    if not found:
        raise SystemExit(f"{worker} never claimed a chunk")
    return int(found[0]["id"].partition("-")[0]) / 1000


def _claims(scene: Stage) -> list[dict[str, Any]]:
    lines: list[str] = []
    for path in Path(scene.base, "state").rglob("*.jsonl"):
        lines += path.read_text().splitlines()[
            1:-1
        ]  # behind the head; the last may be half written
    return [entry for line in lines if (entry := json.loads(line))["k"] == "claimed"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.join", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the run on one slot")
    parser.add_argument("--times", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
