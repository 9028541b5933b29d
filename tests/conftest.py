"""Fixtures that every test may use: a clean environment and real servers of our own.

Where a server's programs are missing, its tests are skipped at home and fail in CI (`CI=true`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import coverage
import hypothesis
import pytest

from dct_celery.adapters.embedded import EmbeddedPostgres, EmbeddedValkey
from dct_celery.errors import InfrastructureError, NoLocalServer
from tests.support.mariadb import EmbeddedMariaDB
from tests.support.rabbitmq import EmbeddedRabbitMQ

Server = TypeVar("Server")

_SCRUBBED = ("DCT_", "DJANGO_", "CELERY_", "BOOKSHOP_")
_COLOURS = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "PY_COLORS")
#: What the servers may know of the environment: taken before the scrubbing, as DCT_PG_BIN chooses
#: the PostgreSQL.
SERVER_ENVIRONMENT = dict(os.environ)

# A busy machine is slow for a moment now and then, which says nothing about an example.
hypothesis.settings.register_profile(
    "dct", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("dct")

for _name in list(os.environ):
    if _name.startswith(_SCRUBBED) or _name in _COLOURS:
        del os.environ[_name]


def pytest_configure(config: pytest.Config) -> None:
    """Ends the measurement that pytest-cov begins in a process of xdist before it knows that it is
    one, and forgets: beside the real one it would go on, through `no_cover`, too.
    """
    forgotten = coverage.Coverage.current() if hasattr(config, "workerinput") else None
    if forgotten is not None:
        forgotten.stop()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only unit and contract tests count for the coverage: the others drive whole processes of
    which this one sees nothing. Of those, not the ones that Hypothesis repeats: they would take
    twice their time, and examples go the same ways.
    """
    here = Path(__file__).parent
    for item in items:
        room = item.path.relative_to(here).parts[0]
        if room not in ("unit", "contract") or item.get_closest_marker("hypothesis"):
            item.add_marker(pytest.mark.no_cover)


def started(start: Callable[[], Server]) -> Server:
    """The server; else this test fails in CI and is skipped at home."""
    try:
        return start()
    except (InfrastructureError, NoLocalServer) as error:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(f"{error}\n{error.detail}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Valkey or Redis of this test session; shared, so use key prefixes of your own."""
    folder = tmp_path_factory.mktemp("valkey")
    with started(lambda: EmbeddedValkey.start(folder, environ=SERVER_ENVIRONMENT)) as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of this test session; shared, so use database names of your own."""
    folder = tmp_path_factory.mktemp("postgres")
    with started(lambda: EmbeddedPostgres.start(folder, environ=SERVER_ENVIRONMENT)) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedMariaDB]:
    """A MariaDB of this test session; shared, so use database names of your own."""
    folder = tmp_path_factory.mktemp("mariadb")
    with started(lambda: EmbeddedMariaDB.start(folder, environ=SERVER_ENVIRONMENT)) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRabbitMQ]:
    """A RabbitMQ of this test session; shared, so use queue names of your own."""
    folder = tmp_path_factory.mktemp("rabbitmq")
    with started(lambda: EmbeddedRabbitMQ.start(folder, environ=SERVER_ENVIRONMENT)) as server:
        yield server
