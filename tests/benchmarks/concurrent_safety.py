"""How often `assert_concurrent_safety` finds planted faults, and how often it is wrong.

    python -m tests.benchmarks.concurrent_safety [--tries 100] [--seed 1] [--vendor NAME...]

On each vendor, for each fault of tests/concurrency_app/faults.py: found in how many tries, false
alarms in how many tries of its sound twin, and seconds of one call. Each try has a seed of its own.
Exit code 1 if less than 99 % are found or there is any false alarm.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.concurrency_app import environment
from tests.support.mariadb import EmbeddedMariaDB

VENDORS = ("postgresql", "mariadb", "sqlite")
_ENOUGH = 0.99


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    if options.child:
        print(json.dumps(measure(options.tries, options.seed)))
        return 0
    rows = []
    print(
        f"{'vendor':<12}{'fault':<20}{'found':>10}{'seconds':>9}{'false alarms':>15}{'seconds':>9}"
    )
    for vendor in options.vendor or VENDORS:
        with tempfile.TemporaryDirectory() as folder, database(vendor, Path(folder)) as settings:
            rows += in_a_process(settings, options.tries, options.seed)
        for row in rows[-4:]:
            found, false = f"{row['found']}/{row['tries']}", f"{row['false']}/{row['tries']}"
            print(
                f"{vendor:<12}{row['fault']:<20}{found:>10}{row['found_seconds']:>9.2f}"
                f"{false:>15}{row['sound_seconds']:>9.2f}",
                flush=True,
            )
            for line in row["wrong"]:
                print(f"    {line}")
    return int(any(row["false"] or row["found"] < _ENOUGH * row["tries"] for row in rows))


@contextlib.contextmanager
def database(vendor: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Settings of a database on a server that is started for it."""
    if vendor == "sqlite":
        yield environment.sqlite()
    elif vendor == "postgresql":
        with EmbeddedPostgres.start(folder) as postgres:
            yield environment.server(
                "postgresql", postgres.host, postgres.port, postgres.user, postgres.password
            )
    else:
        with EmbeddedMariaDB.start(folder) as maria:
            yield environment.server("mysql", maria.host, maria.port, maria.user, maria.password)


def in_a_process(settings: dict[str, Any], tries: int, seed: int) -> list[dict[str, Any]]:
    """The rows of `measure`, from a process that has this database."""
    done = subprocess.run(
        [sys.executable, "-m", _MODULE, "--child", f"--tries={tries}", f"--seed={seed}"],
        env={**os.environ, environment.DATABASE_VARIABLE: json.dumps(settings)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


_MODULE = "tests.benchmarks.concurrent_safety"


def measure(tries: int, seed: int) -> list[dict[str, Any]]:
    """One row for each fault, on the database of the variable."""
    environment.configure(environment.inherited())
    from tests.concurrency_app.faults import FAULTS

    rows = []
    with environment.test_database():
        for fault in FAULTS:
            found = [_try(fault.faulty(), seed + number) for number in range(tries)]
            sound = [_try(fault.sound(), seed + number) for number in range(tries)]
            missed = [f"{fault.name}: missed with seed {s}" for s, text, _ in found if not text]
            false = [f"{fault.name}: false alarm: {text}" for _, text, _ in sound if text]
            rows.append(
                {
                    "fault": fault.name,
                    "tries": tries,
                    "found": tries - len(missed),
                    "false": len(false),
                    "found_seconds": statistics.median(seconds for *_, seconds in found),
                    "sound_seconds": statistics.median(seconds for *_, seconds in sound),
                    "wrong": [*missed, *false],
                }
            )
    return rows


def _try(functions: Any, seed: int) -> tuple[int, str, float]:
    """The seed, what was found or "", and how long it took."""
    from dct_celery.testing import assert_concurrent_safety

    began = time.monotonic()
    text = ""
    try:
        assert_concurrent_safety(functions, seed=seed, timeout=2.0)
    except AssertionError as error:
        text = str(error)
    return seed, text, time.monotonic() - began


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__)
    parser.add_argument("--tries", type=int, default=100, help="of each fault and of each twin")
    parser.add_argument("--seed", type=int, default=1, help="of the first try")
    parser.add_argument("--vendor", nargs="*", choices=VENDORS, help="default: all three")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
