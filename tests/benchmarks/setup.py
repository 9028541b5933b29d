"""What migrations cost a run, the first and the second time: `python -m tests.benchmarks.setup`.

django-oscar with all of its apps, on PostgreSQL and MariaDB: Django's own creation of the test
database, our first run, which builds the template, and our second, which finds it there. Makes an
environment with django-oscar unless --python names one.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.common import Project, Stage, Timed, phases, stage
from tests.support.mariadb import EmbeddedMariaDB

PROJECT = Path(__file__).parent.parent / "oscar_project"
REQUIREMENTS = ("django-oscar==4.2.1", "Django>=5.2,<6", "psycopg[binary]", "mysqlclient")
VENDORS = ("pg", "mysql")
#: Seconds of database set-up that a second run may spend before its first test.
BAR = 0.5
#: Steps of a worker's preparation that are about databases; `load` and `manifest` are the same
#: without any.
STEPS = ("connect", "templates", "serialize")
_SETUP = re.compile(r"Total database setup took ([\d.]+)s")


def main() -> int:
    options = _parser().parse_args()
    worst = 0.0
    with contextlib.ExitStack() as stack:
        scene = stack.enter_context(stage())
        python = options.python or _environment(scene.base / "oscar")
        folder = shutil.copytree(
            PROJECT, scene.base / "project", ignore=shutil.ignore_patterns("__pycache__")
        )
        scene.start_workers(python, 1, options.slots)
        for vendor in options.vendors:
            variables = {}
            if vendor == "mysql":
                variables = _place(
                    stack.enter_context(EmbeddedMariaDB.start(scene.base / "mariadb"))
                )
            worst = max(
                worst, _measure(scene, _project(vendor, folder, python, variables), options)
            )
    print(f"longest database set-up of a second run {worst:.2f} s (bar {BAR} s)")
    return int(worst > BAR)


def _measure(scene: Stage, project: Project, options: argparse.Namespace) -> float:
    """Prints the figures of one vendor; the longest set-up of a run that was not the first."""
    print(project.name)
    stock = _ended(scene.stock(project, "stock", "--timing"))
    found = _SETUP.search(stock.log)
    print(
        f"  {'manage.py test':<16} {stock.seconds:7.2f} s   database set-up "
        f"{found[1] if found else '?'} s",
        flush=True,
    )
    setups = []
    for number in range(1 + options.times):
        timed, report = scene.dct_run(project, "ours", *options.dct)
        _ended(timed)
        setups.append(_set_up(report))
        print(
            f"  {f'dct run, no. {number + 1}':<16} {timed.seconds:7.2f} s   database set-up "
            f"{setups[-1]:.2f} s"
        )
        print(f"    {phases(report)}\n    {_databases(report)}", flush=True)
    return max(setups[1:])


def _set_up(report: Mapping[str, Any]) -> float:
    """Seconds that the slowest worker spent on databases before its slots began.

    Also the seconds that slots then waited for clones.
    """
    use = report.get("databases") or {}
    steps = (
        sum(worker["seconds"].get(step, 0.0) for step in STEPS)
        for worker in use.get("workers", {}).values()
    )
    return max(steps, default=0.0) + use.get("waited_seconds", 0.0)


def _databases(report: Mapping[str, Any]) -> str:
    """What the report says of databases."""
    use = dict(report.get("databases") or {})
    workers = use.pop("workers", {})
    lines = [
        f"{name}: templates {worker['templates']}  {_figures(worker['seconds'])}"
        for name, worker in workers.items()
    ]
    return "\n    ".join([_figures(use), *lines])


def _figures(use: Mapping[str, Any]) -> str:
    return "  ".join(f"{key} {value:g}" for key, value in use.items() if value)


def _ended(timed: Timed) -> Timed:
    if timed.code:
        raise SystemExit(f"ended with {timed.code}:\n{timed.log[-5000:]}")
    return timed


def _project(vendor: str, folder: Path, python: str, variables: Mapping[str, str]) -> Project:
    # The stage knows the way to its own PostgreSQL alone.
    prefix = "OSCAR_UNUSED_" if variables else "OSCAR_DB_"
    environment = {"OSCAR_DB": vendor, "PYTHONWARNINGS": "ignore", **variables}
    return Project(
        vendor, folder, python, (), None, environment, ("OSCAR_*",), database_variables=prefix
    )


def _place(server: EmbeddedMariaDB) -> dict[str, str]:
    values = {
        "HOST": server.host,
        "PORT": str(server.port),
        "USER": server.user,
        "PASSWORD": server.password,
    }
    return {f"OSCAR_DB_{name}": value for name, value in values.items()}


def _environment(folder: Path) -> str:
    """A new virtual environment with django-oscar: its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return python


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.setup", description=__doc__
    )
    parser.add_argument("--vendors", nargs="+", choices=VENDORS, default=list(VENDORS))
    parser.add_argument(
        "--python", help="interpreter of an environment with django-oscar, psycopg and mysqlclient"
    )
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--times", type=int, default=2, help="runs after the first")
    parser.add_argument(
        "--dct", action="append", default=[], metavar="OPTION", help="one more option of dct run"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
