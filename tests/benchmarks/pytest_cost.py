"""What a pytest suite pays to be distributed: `python -m tests.benchmarks.pytest_cost [--times N]`.

Empty tests without a database, on one running worker and on xdist:

- the cost of a test: wall seconds of a long suite less those of a short one, by their difference in
  tests, sequential, with `-n 1`, and on one slot;
- the first test of a suite of 7,000 on 8 slots: from the start of `pytest --dct` until it begins,
  against one `pytest --collect-only`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from tests.benchmarks.common import Project, Stage, Timed, stage

#: Tests of a class, classes of a module.
_TESTS, _CLASSES = 10, 10
_OF_A_MODULE = _TESTS * _CLASSES
_FIRST = """
import os, time
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    try:
        with open(os.environ["FIRST"], "x") as file:
            file.write(str(time.time()))
    except FileExistsError:
        pass
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.pytest_cost", description=__doc__
    )
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--modules", type=int, default=70, help="of 100 tests each")
    options = parser.parse_args()
    with stage() as scene:
        _cost_of_a_test(scene, options.modules, options.times)
    with stage() as scene:
        _first_test(scene, options.modules, options.times)
    return 0


def _cost_of_a_test(scene: Stage, modules: int, times: int) -> None:
    short, long = _suite(scene.base / "short", 1), _suite(scene.base / "long", modules)
    scene.start_workers(short.python, 1, 1)
    commands = {"pytest": (), "pytest -n 1": ("-n", "1"), "one slot": ("--dct",)}
    walls: dict[tuple[str, str], list[float]] = {}
    for number in range(times + 1):
        for name, words in commands.items():
            for project in (short, long):
                timed = _pytest(scene, project, *words)
                if number:  # the first round warms up
                    walls.setdefault((name, project.name), []).append(timed.seconds)
    more = (modules - 1) * _OF_A_MODULE
    print(f"{more:,} more empty tests, medians of {times}")
    costs = {
        name: (statistics.median(walls[name, "long"]) - statistics.median(walls[name, "short"]))
        / more
        for name in commands
    }
    for name, cost in costs.items():
        print(f"  {name:<12} {cost * 1000:.2f} ms a test, {cost / costs['pytest']:.2f}")


def _first_test(scene: Stage, modules: int, times: int) -> None:
    project = _suite(scene.base / "long", modules)
    scene.start_workers(project.python, 1, 8)
    first = Path(project.environment["FIRST"])
    waits, collections = [], []
    for number in range(times + 1):
        first.unlink(missing_ok=True)
        began = time.time()
        _pytest(scene, project, "--dct")
        wait = float(first.read_text()) - began
        collection = _pytest(scene, project, "--collect-only").seconds
        if number:
            waits.append(wait)
            collections.append(collection)
    wait, collection = statistics.median(waits), statistics.median(collections)
    print(f"{modules * _OF_A_MODULE:,} tests on 8 slots of one worker, medians of {times}")
    print(f"  one collection {collection:.2f} s, first test after {wait:.2f} s")
    print(f"  ratio {wait / collection:.2f} (bar 1.2)")


def _suite(folder: Path, modules: int) -> Project:
    """`modules` times 100 tests."""
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(_FIRST)
    test = "    def test_{}(self):\n        pass\n"
    cls = "class Test{}:\n" + "".join(test.format(number) for number in range(_TESTS))
    text = "".join(cls.format(number) for number in range(_CLASSES))
    for number in range(modules):
        (folder / f"test_module_{number:03}.py").write_text(text)
    first = folder.with_suffix(".first")
    return Project(
        folder.name, folder, sys.executable,
        environment={"FIRST": str(first)}, forwarded=("FIRST",),
    )  # fmt: skip


def _pytest(scene: Stage, project: Project, *words: str) -> Timed:
    """Raises SystemExit if it is not green."""
    own = {"XDG_STATE_HOME": str(scene.base / "state"), **scene.variables(), "DCT_ENV": "FIRST"}
    argv = [project.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    timed = scene.run(argv, project, project.name, own)
    if timed.code != 0:
        raise SystemExit(timed.log[-3000:])
    return timed


if __name__ == "__main__":
    sys.exit(main())
