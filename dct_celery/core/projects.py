"""Whose tests a project has, as its files say: those of Django's command, or of pytest."""

from __future__ import annotations

import configparser
import tomllib
from dataclasses import dataclass

from dct_celery.core import command
from dct_celery.core.backends import DJANGO, PYTEST

#: Files that may configure pytest, in the order in which it looks for them in each folder.
PYTEST_FILES = (
    "pytest.toml",
    ".pytest.toml",
    "pytest.ini",
    ".pytest.ini",
    "pyproject.toml",
    "tox.ini",
    "setup.cfg",
)
#: How the origin of a backend begins that nobody has chosen.
RECOGNISED = "recognised by "
#: What a section says that has pytest-django run the tests.
_DJANGOS_WORDS = ("DJANGO_SETTINGS_MODULE", "DJANGO_CONFIGURATION", "--ds")


@dataclass(frozen=True, slots=True)
class PytestConfig:
    """A configuration of pytest. `names_settings`: also of the Django project that it tests;
    `above`: it is in a folder above the one of the command.
    """

    place: str
    names_settings: bool
    above: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend that nobody has named; `origin` says how that comes, and how to get another."""

    backend: str
    origin: str


def pytest_config(name: str, text: str) -> PytestConfig | None:
    """What the file of this name says, by pytest's own rules; None if it does not configure pytest.

    Raises ValueError if the file cannot be read.
    """
    section, values = _toml(name, text) if name.endswith(".toml") else _ini(name, text)
    if values is None:
        return None
    place = f"{name} [{section}]" if section else name
    return PytestConfig(place, any(word in values for word in _DJANGOS_WORDS))


def _toml(name: str, text: str) -> tuple[str, str | None]:
    """The section and its text; None without one. A pytest.toml counts even if it is empty."""
    found = tomllib.loads(text)
    if name != "pyproject.toml":
        return "", text
    tool = found.get("tool")
    table = tool.get("pytest") if isinstance(tool, dict) else None
    if not isinstance(table, dict):
        return "", None
    section = "tool.pytest.ini_options" if "ini_options" in table else "tool.pytest"
    return section, repr(table)


def _ini(name: str, text: str) -> tuple[str, str | None]:
    """As `_toml`."""
    if name.endswith("pytest.ini"):
        return "", text
    section = "tool:pytest" if name.endswith(".cfg") else "pytest"
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(" ".join(str(error).split())) from error
    if not parser.has_section(section):
        return "", None
    return section, repr(parser.items(section))


def choose(
    config: PytestConfig | None, *, has_manage: bool, own_command: str | None, djangos: str | None
) -> Choice | None:
    """The backend where none was named; None for that of a project that leaves no doubt: Django's.

    Args:
        config: Of pytest, if there is one.
        has_manage: There is a manage.py.
        own_command: The project's own test command, if one was given.
        djangos: Where an option came from that only Django's tests have, if one was given.
    """
    if own_command is not None and _is_pytest(own_command):
        return Choice(PYTEST, f"{RECOGNISED}--command")
    if config is None:
        return None
    # Without settings it is of a tool beside the project, maybe.
    djangos_own = has_manage and not config.names_settings
    if djangos_own and config.above and own_command is None:
        return None
    other = f"--backend {PYTEST} takes {config.place}"
    if own_command is not None:
        return Choice(DJANGO, f"{RECOGNISED}--command; {other}")
    if djangos is not None:
        return Choice(DJANGO, f"{RECOGNISED}{djangos}; {other}")
    if djangos_own:
        return Choice(DJANGO, f"{RECOGNISED}{command.MANAGE[0]}; {other}")
    own = "manage.py test" if has_manage else "Django's own tests"
    return Choice(PYTEST, f"{RECOGNISED}{config.place}; --backend {DJANGO} takes {own}")


def _is_pytest(line: str) -> bool:
    try:
        return command.parse(line) in (command.PYTEST, command.PYTEST_PROGRAM)
    except ValueError:
        return False  # it is refused later, by name
