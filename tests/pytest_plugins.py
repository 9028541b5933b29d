"""Runs the tests of each plugin by themselves, sequential and on two workers, and compares.

    python -m tests.pytest_plugins [NAME...]

Prints a line for each: its version, how many tests, and what differs.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

from dct_celery.adapters.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.support import pytest_plugins
from tests.support.fleet import Fleet
from tests.support.pytest_plugins import PLUGINS, Plugin

#: Of each file with tests, so that both workers have some.
COPIES = 4
#: That each of them takes at least.
SECONDS = 0.1


def main(names: list[str]) -> int:
    if why := pytest_plugins.missing():
        print(f"error: {why}", file=sys.stderr)
        return 4
    chosen = list(pytest_plugins.named(*names)) if names else list(PLUGINS)
    installed = {one.name: one.version for one in distributions(path=[*sys.path, _folder()])}
    bad = 0
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedValkey.start(Path(name, "store")) as store,
        Fleet(Path(name, "fleet"), store.url) as fleet,
    ):
        pytest_plugins.start_workers(fleet)
        project = pytest_plugins.copy_of_project(Path(name, "shelf"))
        for plugin in chosen:
            more = pytest_plugins.multiplied(plugin, project, COPIES)
            with _place(plugin, Path(name)) as words:
                found, different = pytest_plugins.both(
                    fleet, [more], project, *words, seconds=SECONDS
                )
            bad += bool(different)
            print(
                f"{_named(plugin, installed)}: {len(found.cases)} tests, exit {found.code}:",
                end=" ",
            )
            print("as the sequential run" if not different else "DIFFERS", end=", ")
            print(f"{len(pytest_plugins.workers_of(project))} workers")
            print("".join(f"    {line[:2000]}\n" for line in different), end="", flush=True)
    return 1 if bad else 0


@contextlib.contextmanager
def _place(plugin: Plugin, folder: Path) -> Iterator[list[str]]:
    """Words that say where a server is, if the plugin wants one."""
    if not plugin.postgres:
        yield []
        return
    with EmbeddedPostgres.start(folder / "postgres") as server:
        place = {"host": server.host, "port": server.port, "user": server.user,
                 "password": server.password}  # fmt: skip
        yield [f"--postgresql-{key}={value}" for key, value in place.items()]


def _folder() -> str:
    return str(pytest_plugins.INSTALLED)


def _named(plugin: Plugin, installed: dict[str, str]) -> str:
    names = plugin.name.split(", ")
    return ", ".join(f"{one} {installed.get(one, '')}".rstrip() for one in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
