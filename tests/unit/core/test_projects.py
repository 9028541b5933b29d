"""Claims about `core.projects`: whose tests a project has, by its files alone."""

from __future__ import annotations

import pytest

from dct_celery.core.projects import PytestConfig, choose, pytest_config

NAMED = PytestConfig("pytest.ini", names_settings=True)
BARE = PytestConfig("tox.ini [pytest]", names_settings=False)
ABOVE = PytestConfig("../tox.ini [pytest]", names_settings=False, above=True)


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("pytest.ini", "", "pytest.ini"),
        (".pytest.ini", "[pytest]\n", ".pytest.ini"),
        ("pytest.toml", "", "pytest.toml"),
        ("tox.ini", "[tox]\n[pytest]\naddopts = -q\n", "tox.ini [pytest]"),
        ("setup.cfg", "[tool:pytest]\n", "setup.cfg [tool:pytest]"),
        (
            "pyproject.toml",
            "[tool.pytest.ini_options]\n",
            "pyproject.toml [tool.pytest.ini_options]",
        ),
        ("pyproject.toml", "[tool.pytest]\naddopts = []\n", "pyproject.toml [tool.pytest]"),
    ],
)
def test_each_place_of_pytests_configuration_is_found(name: str, text: str, place: str) -> None:
    assert pytest_config(name, text) == PytestConfig(place, names_settings=False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tox.ini", "[tox]\n[tool:pytest]\n"),
        ("setup.cfg", "[pytest]\n[metadata]\nname = shop\n"),
        ("pyproject.toml", "[tool.dct]\n"),
        ("pyproject.toml", "tool = 1\n"),
        ("pyproject.toml", ""),
    ],
)
def test_files_of_other_tools_are_none(name: str, text: str) -> None:
    assert pytest_config(name, text) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = shop.settings\n"),
        ("setup.cfg", "[tool:pytest]\naddopts = --ds=shop.settings\n"),
        ("tox.ini", "[pytest]\nenv =\n    DJANGO_SETTINGS_MODULE=shop.settings\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\nDJANGO_SETTINGS_MODULE = "shop.settings"\n'),
    ],
)
def test_settings_that_pytest_names_are_found(name: str, text: str) -> None:
    found = pytest_config(name, text)
    assert found is not None
    assert found.names_settings


@pytest.mark.parametrize(
    ("name", "text"), [("tox.ini", "no section"), ("pyproject.toml", "[tool"), ("pytest.toml", "=")]
)
def test_what_cannot_be_read_is_said(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        pytest_config(name, text)


@pytest.mark.parametrize(
    ("config", "manage", "command", "djangos", "chosen"),
    [
        (None, True, None, None, None),
        (None, False, None, None, None),
        (BARE, False, None, None, ("pytest", "tox.ini [pytest]; --backend django takes Django's")),
        (NAMED, True, None, None, ("pytest", "pytest.ini; --backend django takes manage.py test")),
        (BARE, True, None, None, ("django", "manage.py; --backend pytest takes tox.ini [pytest]")),
        (ABOVE, True, None, None, None),
        (ABOVE, False, None, None, ("pytest", "../tox.ini [pytest]; ")),
        (NAMED, True, None, "--tag", ("django", "--tag; --backend pytest takes pytest.ini")),
        (NAMED, True, "python manage.py test", None, ("django", "--command; --backend pytest")),
        (None, True, "python -m pytest", None, ("pytest", "--command")),
        (None, True, "pytest", "--tag", ("pytest", "--command")),
        (None, True, "'", None, None),
    ],
)
def test_the_backend_is_that_of_the_better_claim(
    config: PytestConfig | None,
    manage: bool,
    command: str | None,
    djangos: str | None,
    chosen: tuple[str, str] | None,
) -> None:
    # When
    found = choose(config, has_manage=manage, own_command=command, djangos=djangos)
    # Then
    if chosen is None:
        assert found is None
    else:
        assert found is not None
        assert found.backend == chosen[0]
        assert found.origin.startswith(f"recognised by {chosen[1]}")
