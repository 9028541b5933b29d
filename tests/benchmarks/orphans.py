"""Kills everything at random instants and counts what stays on the database server.

`python -m tests.benchmarks.orphans`

Each round starts a worker and a run of the sample project and kills -9 all of it at once after a
random time: dispatcher, worker, slots, loader, test processes. One more worker is started at the
end; what it has not collected after a minute is an orphan. The seed reproduces the instants.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dct_celery.adapters.databases.select import server_for
from dct_celery.adapters.embedded import EmbeddedPostgres, EmbeddedValkey
from dct_celery.ports import DatabaseServer, DatabaseSpec
from tests.support.fleet import Fleet, until
from tests.support.mariadb import EmbeddedMariaDB

PROJECT = Path(__file__).parent.parent / "sample_project"
#: Seconds within which the next worker has collected everything.
BAR = 60.0


def main() -> int:
    options = _parser().parse_args()
    chance = random.Random(options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="dct-orphans-") as folder,
        _servers(Path(folder), options.vendor) as (store, where),
    ):
        database = {f"BOOKSHOP_DB_{name.upper()}": value for name, value in where.items()}
        database["BOOKSHOP_DB"] = {"postgresql": "pg", "mysql": "mysql"}[options.vendor]
        spec = DatabaseSpec(
            "default",
            options.vendor,
            "bookshop",
            user=where["user"],
            password=where["password"],
            host=where["host"],
            port=where["port"],
        )
        server = server_for(spec, Path(folder))
        spent = 0
        for number in range(options.times):
            spent += _round(
                Path(folder) / str(number),
                store,
                database,
                chance.uniform(0.0, options.longest),
                server,
            )
            print(f"{number + 1:3}  {len(_unfinished(server)):3} unfinished databases", flush=True)
        print(
            f"{options.times} times killed, {spent} databases were left in all; seed {options.seed}"
        )
        return _collected(Path(folder) / "last", store, database, server)


def _round(
    folder: Path, store: str, database: dict[str, str], seconds: float, server: DatabaseServer
) -> int:
    """How many databases more there are than before."""
    before = len(_unfinished(server))
    fleet = Fleet(folder, store)
    folder.mkdir()
    fleet.worker(slots=2)
    running = fleet.start(
        PROJECT, "--env", "BOOKSHOP_*", *(["--create-db"] if seconds > 4 else []), **database
    )
    time.sleep(seconds)
    fleet.kill()
    running.process.communicate()
    return len(_unfinished(server)) - before


def _collected(folder: Path, store: str, database: dict[str, str], server: DatabaseServer) -> int:
    """One more worker on the servers of the killed ones, as after a restart of the machine."""
    folder.mkdir()
    with Fleet(folder, store) as fleet:
        remembered = next((folder.parent / "0").glob("*/work/servers.json"), None)
        for candidate in folder.parent.glob("*/*/work/servers.json"):
            remembered = candidate
        assert remembered is not None, "no round came far enough to know a server"
        (folder / "build-a" / "work").mkdir(parents=True)
        (folder / "build-a" / "work" / "servers.json").write_bytes(remembered.read_bytes())
        (folder / "build-a" / "work").rename(folder / "work")
        (folder / "build-a").rmdir()
        fleet.worker(slots=1, DCT_WORK_DIR=str(folder / "work"))
        try:
            seconds = until(lambda: not _unfinished(server), BAR)
        except AssertionError:
            print(f"after {BAR:.0f} s there are orphans: {', '.join(_unfinished(server))}")
            return 1
        print(f"0 orphans {seconds:.1f} s after the next worker's start (bar {BAR:.0f} s)")
        return 0


def _unfinished(server: DatabaseServer) -> list[str]:
    """What is neither a template nor an idle clone."""
    lasting = ("template", "flushed", "idle")
    return [one.name for one in server.found() if one.mark is None or one.mark.kind not in lasting]


@contextlib.contextmanager
def _servers(folder: Path, vendor: str) -> Iterator[tuple[str, dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey.start(folder / "valkey"))
        server: EmbeddedPostgres | EmbeddedMariaDB
        if vendor == "postgresql":
            server = stack.enter_context(EmbeddedPostgres.start(folder / "database"))
        else:
            server = stack.enter_context(EmbeddedMariaDB.start(folder / "database"))
        where = {
            "host": server.host,
            "port": str(server.port),
            "user": server.user,
            "password": server.password,
        }
        yield valkey.url, where


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.orphans", description=__doc__
    )
    parser.add_argument("--vendor", choices=("postgresql", "mysql"), default="postgresql")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument(
        "--longest",
        type=float,
        default=8.0,
        help="seconds after which everything is killed at the latest",
    )
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
