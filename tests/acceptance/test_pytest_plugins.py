"""Plugins that Django projects use say of a distributed run what they say of a sequential one.

`python -m tests.pytest_plugins` runs each by itself; see docs/pytest.md for its result.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import pytest_plugins
from tests.support.fleet import Fleet

#: In each, those that do not disturb one another: all others are there, too.
TOGETHER = {
    "reports": (
        "pytest-mock", "pytest-asyncio", "pytest-rerunfailures", "pytest-timeout", "pytest-env",
        "pytest-order", "pytest-dependency", "pytest-socket", "pytest-json-report",
        "pytest-json-ctrf", "pytest-html", "pytest-metadata", "pytest-durations", "syrupy",
        "pytest-recording", "pytest-benchmark", "pytest-factoryboy", "freezegun",
        "pytest-reportlog", "pytest-instafail", "pytest-github", "pytest --durations",
    ),
    "order": ("anyio", "pytest-retry", "pytest-randomly", "pytest-sugar", "allure"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, fleet_store: str) -> Iterator[Fleet]:
    """Two workers of one slot each that find the plugins."""
    if why := pytest_plugins.missing():
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    with Fleet(tmp_path_factory.mktemp("pool"), fleet_store) as fleet:
        pytest_plugins.start_workers(fleet)
        yield fleet


@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER)
def test_plugins_say_what_they_say_of_a_sequential_run(
    pool: Fleet, tmp_path: Path, names: tuple[str, ...]
) -> None:
    # Given
    project = pytest_plugins.copy_of_project(tmp_path / "shelf")
    # When
    plugins = pytest_plugins.named(*names)
    # So long that both workers get some.
    found, different = pytest_plugins.both(pool, plugins, project, seconds=0.02)
    # Then
    assert not different, "\n".join(different)
    assert found.code == 1
    assert len(found.cases) > 20
