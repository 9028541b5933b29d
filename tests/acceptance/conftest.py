"""Fixtures of the acceptance tests: fleets of real workers on real servers.

Starting workers is a good part of what these tests take, so three fleets are shared; each for a
module only, as a worker that waits takes a hundredth of a core. A test that gives its worker
variables, harms it, leaves a run without its dispatcher, or needs to be the first on it, takes
`fleet`. What is shared keeps looking at the servers of its runs: a server that a test ends or
watches is not for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.support.fleet import Fleet
from tests.support.postgres import connect

_LASTING = (" kind=template ", " kind=flushed ")


@pytest.fixture(scope="session")
def fleet_store(valkey_url: str) -> str:
    """A database of its own on the shared server.

    Celery leaves keys that tests of the store would stumble over.
    """
    return f"{valkey_url.rpartition('/')[0]}/5"


@pytest.fixture
def fleet(tmp_path: Path, fleet_store: str) -> Iterator[Fleet]:
    """A pool of its own, without workers yet."""
    with Fleet(tmp_path / "fleet", fleet_store) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def busy_fleet(tmp_path_factory: pytest.TempPathFactory, fleet_store: str) -> Iterator[Fleet]:
    """A pool with one ordinary worker of one slot. Shared by the tests of a module."""
    with Fleet(tmp_path_factory.mktemp("busy_fleet"), fleet_store) as fleet:
        fleet.worker()
        yield fleet


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, fleet_store: str) -> Iterator[Fleet]:
    """A pool with two ordinary workers of one slot each, shared by the tests of a module."""
    with Fleet(tmp_path_factory.mktemp("pair"), fleet_store) as fleet:
        fleet.worker("build-a")
        fleet.worker("build-b")
        yield fleet


@pytest.fixture(scope="module")
def wide_fleet(tmp_path_factory: pytest.TempPathFactory, fleet_store: str) -> Iterator[Fleet]:
    """A pool with one ordinary worker of two slots, shared by the tests of a module."""
    with Fleet(tmp_path_factory.mktemp("wide_fleet"), fleet_store) as fleet:
        fleet.worker(slots=2)
        yield fleet


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Folder for a project; no other test has one of that name, and timings are kept by name."""
    return tmp_path / tmp_path.name


@pytest.fixture
def our_databases(postgres_server: EmbeddedPostgres) -> Callable[[], list[str]]:
    """Asks the server for databases with a name of ours that this test created.

    Templates are left out, as they are kept.
    """
    server = postgres_server

    def names() -> list[str]:
        with connect(server) as connection:
            rows = connection.execute(
                "SELECT datname, coalesce(shobj_description(oid, 'pg_database'), '') "
                "FROM pg_database"
            )
            ours = [
                name
                for name, mark in rows
                if name.startswith("test_") and not any(kind in mark for kind in _LASTING)
            ]
            return [name for name in ours if name not in before]

    before: list[str] = []
    before += names()
    return names
