"""What a small run waits for: `python -m tests.benchmarks.small_run [--times N] [--tests N]`.

The same few tests run again and again on a worker that stays: an interactive run of a class or two.
The first run, which builds the templates, does not count. All moments are milliseconds from the
start of the command; those between are read from the journal, whose entries have the time of the
store's clock, which is this machine's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.common import Project, Stage, stage
from tests.benchmarks.projects import empty_suite

#: What the project has besides its own app: their system checks, and their tables.
_APPS = ("contenttypes", "auth", "sessions", "messages", "admin")
_MORE_SETTINGS = """
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
"""
_MOMENTS = ("ready", "first claim", "last chunk ends", "checks reported", "exit")


def main() -> int:
    options = _parser().parse_args()
    with stage() as scene:
        project = _project(scene.base / "project", options)
        scene.start_workers(project.python, 1, options.slots)
        runs = [_run(scene, project) for _ in range(options.times + 1)][1:]
    print(
        f"{options.tests} tests ({options.kind}), {options.slots} slots, {options.times} runs; ms"
    )
    for moment in _MOMENTS:
        found = sorted(run[moment] for run in runs if moment in run)
        if found:
            each = " ".join(f"{ms:5.0f}" for ms in found)
            print(f"  {moment:18} median {statistics.median(found):5.0f}   of {each}")
    return 0


def _project(folder: Path, options: argparse.Namespace) -> Project:
    project = empty_suite(folder, options.kind, max(options.tests // 5, 1), 5)
    settings = folder / "bench_settings.py"
    apps = ", ".join(f'"django.contrib.{app}"' for app in _APPS)
    settings.write_text(
        settings.read_text().replace('["suite"]', f'[{apps}, "suite"]') + _MORE_SETTINGS
    )
    return project


def _run(scene: Stage, project: Project) -> dict[str, float]:
    """Milliseconds from the start of the command to each moment."""
    before = set(Path(scene.base, "state").rglob("*.jsonl"))
    start = time.time()
    timed, _ = scene.dct_run(project, "small")
    if timed.code:
        raise SystemExit(timed.log)
    [journal] = set(Path(scene.base, "state").rglob("*.jsonl")) - before
    found = {"exit": timed.seconds * 1000}
    for moment, ms in _moments(journal):
        if moment == "last chunk ends" or moment not in found:
            found[moment] = ms - start * 1000
    return found


def _moments(journal: Path) -> Iterator[tuple[str, float]]:
    for line in journal.read_text().splitlines()[1:]:  # behind the head
        entry: dict[str, Any] = json.loads(line)
        ms = float(entry["id"].partition("-")[0])
        match entry["k"]:
            case "claimed":
                yield "first claim", ms
            case "completed":
                yield "last chunk ends", ms
            case "report" if '"ReadyReport"' in entry["d"]:
                yield "ready", ms
            case "report" if '"CheckedReport"' in entry["d"]:
                yield "checks reported", ms


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.small_run", description=__doc__
    )
    parser.add_argument("--tests", type=int, default=100)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--times", type=int, default=7, help="runs that count")
    parser.add_argument(
        "--kind", choices=["testcase", "simple"], default="testcase", help="with PostgreSQL or not"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
