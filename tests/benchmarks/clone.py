"""What a slot's database costs, beside Django's own clone: `python -m tests.benchmarks.clone`.

Per server and size: Django's clone and ours in turns; drop; heal of a used clone; state; eight of
ours at once (per clone). Every clone and every healed database is compared with the template by its
dump. Medians.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dct_celery.adapters.databases.select import server_for
from dct_celery.core.databases import names
from dct_celery.core.databases.marks import Mark
from dct_celery.ports import DatabaseServer
from tests.benchmarks.clone_scene import Django, Place, dump, given, place, project

#: Tables that a test left rows in.
DIRTY = 10
COLUMNS = ("django", "ours", "at once", "drop", "heal", "state")
#: Bars at 200 tables and more: (server, medium) -> column -> ms; "ratio" is Django's clone over
#: ours.
BARS = {
    ("postgresql", "tmpfs"): {"ours": 60.0, "at once": 100.0},
    ("mariadb", "tmpfs"): {"ours": 130.0, "ratio": 5.0},
    ("mysql", "given"): {"heal": 100.0, "ratio": 2.0},
}


@dataclass(slots=True)
class Figures:
    """Milliseconds per column."""

    where: Place
    tables: int
    samples: dict[str, list[float]] = field(
        default_factory=lambda: {column: [] for column in COLUMNS}
    )

    def add(self, column: str, seconds: float) -> None:
        self.samples[column].append(seconds * 1000)

    def median(self, column: str) -> float:
        if column == "ratio":
            return self.median("django") / self.median("ours")
        return statistics.median(self.samples[column] or [math.nan])

    def line(self) -> str:
        cells = [f"{self.median(column):9.1f}" for column in COLUMNS]
        cells.insert(2, f"{self.median('ratio'):7.1f}")
        return f"{self.where.label:<11} {self.where.medium:<6} {self.tables:>6} " + " ".join(cells)

    def missed(self) -> list[str]:
        bars = BARS.get((self.where.label, self.where.medium), {}) if self.tables >= 200 else {}
        return [
            f"{self.where.label} {self.where.medium} {self.tables}: "
            f"{column} {self.median(column):.1f}, bar {bar:g}"
            for column, bar in bars.items()
            if (self.median(column) < bar if column == "ratio" else self.median(column) > bar)
        ]


class Scene:
    """One server with one template of ours and an equal database for Django to clone."""

    def __init__(
        self, where: Place, django: Django, folder: Path, tables: int, at_once: int
    ) -> None:
        self._where, self._django, self._folder, self._tables = where, django, folder, tables
        self._server = self.connect()
        #: They live as long as slots do, so that each reads the template once.
        self._crew = [self.connect() for _ in range(at_once)]
        self._count = itertools.count(1)
        self._run = f"bench-{time.time_ns()}"
        self._template = names.template_name(f"{time.time_ns():016x}", "bench", flushed=False)
        self._source = f"test_benchsource_{time.time_ns():x}"
        self._dump = self._build()

    def measure(self, figures: Figures, times: int) -> None:
        self._check_size(figures)
        for turn in range(times + 1):
            taken = {"django": self._django_clone(turn), **self._our_clone(), **self._heal()}
            taken |= {"at once": self._clones_at_once()} if self._crew else {}
            for column, seconds in taken.items() if turn else ():  # the first turn warms up
                figures.add(column, seconds)

    def connect(self) -> DatabaseServer:
        return server_for(self._where.spec, self._folder)

    def close(self) -> None:
        self._server.drop(self._template)
        self._django.ask("drop", name=self._source)
        for server in (self._server, *self._crew):
            server.close()

    # -- steps -------------------------------------------------------------------------

    def _build(self) -> str:
        """Makes both; the hash of the dump, taken while connections are still allowed."""
        self._server.check()
        limit = names.ownership_limit(self._template) if self._where.label == "postgresql" else None
        self._server.announce(self._template, self._mark("building"))
        self._django.ask("build", name=self._template, limit=limit)
        self._django.ask("build", name=self._source, limit=None)
        made = dump(self._where, self._template)
        self._server.seal(self._template, self._mark("template"))
        return made

    def _check_size(self, figures: Figures) -> None:
        found = self._django.ask("tables", name=self._source)[1]
        if found != figures.tables:
            raise SystemExit(
                f"the project has {found} tables instead of {figures.tables}; say --tables {found}"
            )

    def _django_clone(self, turn: int) -> float:
        seconds, _ = self._django.ask("clone", source=self._source, suffix=str(turn))
        name = f"{self._source}_{turn}"
        if (found := self._django.ask("tables", name=name)[1]) != self._tables:
            raise SystemExit(
                f"Django's clone on {self._where.label} has {found} tables instead of "
                f"{self._tables}"
            )
        self._django.ask("drop", name=name)
        return seconds

    def _our_clone(self) -> dict[str, float]:
        name, mark, took = self._name(), self._mark("clone"), {}
        took["ours"] = _timed(lambda: self._server.clone(self._template, name, mark))
        self._compare(name)
        took["state"] = _timed(lambda: self._server.state(name))
        took["drop"] = _timed(lambda: self._server.drop(name))
        return took

    def _clones_at_once(self) -> float:
        """Seconds per clone when so many sessions each make one."""
        fresh, mark = [self._name() for _ in self._crew], self._mark("clone")
        made: list[str] = []

        def clone(server: DatabaseServer, name: str) -> None:
            server.clone(self._template, name, mark)
            made.append(name)

        threads = [
            threading.Thread(target=clone, args=pair)
            for pair in zip(self._crew, fresh, strict=True)
        ]
        seconds = _timed(lambda: _together(threads))
        if len(made) != len(fresh):
            raise SystemExit(
                f"{len(fresh) - len(made)} of {len(fresh)} clones at once failed, see above"
            )
        for server, name in zip(self._crew, fresh, strict=True):
            self._compare(name)
            server.drop(name)
        return seconds / len(fresh)

    def _heal(self) -> dict[str, float]:
        name, fresh, mark = self._name(), self._name(), self._mark("clone")
        self._server.clone(self._template, name, mark)
        self._django.ask("dirty", name=name, tables=DIRTY)
        healed: list[str] = []
        took = {
            "heal": _timed(
                lambda: healed.append(self._server.heal(name, self._template, fresh, mark))
            )
        }
        self._compare(healed[0])
        self._server.drop(healed[0])
        return took

    def _compare(self, name: str) -> None:
        if dump(self._where, name) != self._dump:
            raise SystemExit(f"{name} on {self._where.label} differs from its template")

    def _name(self) -> str:
        return names.clone_name("bench", 0, self._run, "bench", next(self._count))

    def _mark(self, kind: str) -> Mark:
        now = self._server.now()
        template = self._template if kind == "clone" else ""
        return Mark(kind, self._run, "bench", f"bench-{self._run}", template, now, now, now + 3600)


def main() -> int:
    options = _parser().parse_args()
    missed: list[str] = []
    heads = [f"{name:>9}" for name in COLUMNS]
    heads.insert(2, "  ratio")
    print(
        f"ms, medians of {options.times}\n{'server':<11} {'medium':<6} tables " + " ".join(heads),
        flush=True,
    )
    with tempfile.TemporaryDirectory(
        prefix="dct-bench-", dir=options.folder, ignore_cleanup_errors=True
    ) as base:
        Path(base).chmod(0o755)
        for number, make in enumerate(_places(options)):
            with make(Path(base) / f"server-{number}") as where:
                for tables in options.tables or (210,):
                    figures = _measured(where, Path(base) / f"{number}-{tables}", tables, options)
                    print(figures.line(), flush=True)
                    missed += figures.missed()
    print("\n".join(f"missed: {line}" for line in missed) or "all bars are met")
    return int(bool(missed))


def _places(
    options: argparse.Namespace,
) -> Iterator[Callable[[Path], contextlib.AbstractContextManager[Place]]]:
    for vendor in options.vendor or ("postgresql", "mariadb"):
        for medium in ("tmpfs", "disk") if options.disk else ("tmpfs",):
            yield lambda folder, vendor=vendor, medium=medium: place(vendor, medium, folder)  # type: ignore[misc]
    if options.mysql:
        yield lambda _: contextlib.nullcontext(given(options.mysql, options.mysql_programs))


def _measured(where: Place, folder: Path, tables: int, options: argparse.Namespace) -> Figures:
    figures = Figures(where, tables)
    with Django(project(folder / "project", tables), where) as django:
        scene = Scene(where, django, folder, tables, options.at_once)
        with contextlib.closing(scene):
            scene.measure(figures, options.times)
    return figures


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{sys.executable} -m tests.benchmarks.clone", description=__doc__
    )
    parser.add_argument("--times", type=int, default=10, help="turns, after one to warm up")
    parser.add_argument(
        "--vendor", action="append", choices=("postgresql", "mariadb"), help="default: both"
    )
    parser.add_argument("--tables", type=int, action="append", help="sizes; default: 210")
    parser.add_argument(
        "--at-once",
        type=int,
        default=8,
        metavar="N",
        help="clones made at the same time; 0: not measured",
    )
    parser.add_argument(
        "--disk", action="store_true", help="also with stock settings and the data in --folder"
    )
    parser.add_argument("--folder", help="where files go; default: the temporary folder")
    parser.add_argument(
        "--mysql", metavar="HOST:PORT:USER:PASSWORD", help="also on this server, which must run"
    )
    parser.add_argument(
        "--mysql-programs", default="", metavar="FOLDER", help="its mysql and mysqldump"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
