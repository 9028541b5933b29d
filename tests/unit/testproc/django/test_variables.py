"""Claims about `testproc.django.variables`: what the project reads is noted, and nothing else."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dct_celery.core.environment import UNSET
from dct_celery.testproc.django import variables
from dct_celery.testproc.django.variables import Variables

Notes = Callable[..., dict[str, str]]
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Variables]:
    """Notes of this test."""
    mine = Variables()
    monkeypatch.setattr(variables, "VARIABLES", mine)
    yield mine
    mine.stop()


@pytest.fixture
def notes(noted: Variables, tmp_path: Path) -> Notes:
    """Imports a module with this text, in the project or at another path, and returns the facts."""

    def read(
        text: str, path: str = "", places: tuple[str, ...] = (), key: str = "k"
    ) -> dict[str, str]:
        file = tmp_path / (path or f"project_{next(_numbers)}.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        noted.start()
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        noted.stop()
        return noted.facts(key, str(tmp_path), places)

    return read


@pytest.mark.parametrize(
    "code",
    [
        "os.environ['APP_A']",
        "os.environ.get('APP_A')",
        "os.environ.get('APP_A', 'x')",
        "os.getenv('APP_A')",
        "'APP_A' in os.environ",
        "os.path.expandvars('$APP_A')",
        "os.environ.setdefault('APP_A', 'x')",
        "os.environ.pop('APP_A')",
    ],
)
def test_whatever_way_the_project_reads_a_variable_it_is_noted(
    notes: Notes, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    # Given
    monkeypatch.setenv("APP_A", "hush-1")
    # When
    facts = notes(f"import os\n{code}\n")
    # Then
    assert list(facts) == ["variable:APP_A"]
    assert facts["variable:APP_A"] not in ("", UNSET)
    assert "hush" not in facts["variable:APP_A"]


def test_one_that_is_not_set_is_noted_as_such(notes: Notes, noted: Variables) -> None:
    assert notes("import os\nos.environ.get('APP_B')\n") == {"variable:APP_B": UNSET}
    assert noted.unset() == ("APP_B",)


def test_equal_values_have_equal_facts_under_one_key_only(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    text = "import os\nos.environ['APP_A']\n"
    monkeypatch.setenv("APP_A", "1")
    one, same, other_key = notes(text), notes(text), notes(text, key="other")
    monkeypatch.setenv("APP_A", "2")
    # Then
    assert one == same
    assert one != other_key
    assert one != notes(text)


def test_the_folder_of_the_tree_is_no_part_of_a_value(
    notes: Notes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given
    text = "import os\nos.environ['APP_A']\n"
    monkeypatch.setenv("APP_A", f"{tmp_path}/data")
    one = notes(text)
    # When
    monkeypatch.setenv("APP_A", "<root>/data")
    # Then
    assert notes(text) == one


def test_a_package_that_reads_for_the_project_reads_what_the_project_asks(
    notes: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "askers.py").write_text(
        "import os\nos.environ.get('OF_ITS_OWN')\ndef ask(name): return os.environ.get(name)\n"
    )
    monkeypatch.syspath_prepend(str(site))
    # When
    facts = notes("import askers\naskers.ask('APP_A')\n")
    sys.modules.pop("askers")
    # Then
    assert facts == {"variable:APP_A": UNSET}


def test_what_python_reads_for_itself_is_not_noted(notes: Notes) -> None:
    assert notes("import gettext\ngettext.translation('x', fallback=True)\n") == {}


@pytest.mark.parametrize(
    "code",
    [
        "dict(os.environ)",
        "{**os.environ}",
        "os.environ.copy()",
        "list(os.environ.items())",
        "{name: value for name, value in os.environ.items()}",
        "for name, value in os.environ.items(): pass",
        "for value in os.environ.values(): pass",
    ],
)
def test_reading_all_of_them_at_once_is_reading_none(
    notes: Notes, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    # Given
    monkeypatch.setenv("APP_A", "1")
    # Then
    assert notes(f"import os\n{code}\n") == {}
    assert list(notes(f"import os\n{code}\nos.environ['APP_A']\n")) == ["variable:APP_A"]


@pytest.mark.parametrize(
    "name", ["HOME", "PATH", "DCT_STORE", "PYTHONPATH", "DJANGO_SETTINGS_MODULE"]
)
def test_variables_of_the_machine_are_not_compared(notes: Notes, name: str) -> None:
    assert notes(f"import os\nos.environ.get({name!r})\n") == {}


def test_what_the_process_sets_itself_is_said_to_be_set(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setenv("APP_A", "to be put back")
    text = "import os\nos.environ['APP_A'] = '{}'\nos.environ['APP_A']\n"
    # Then
    assert (
        notes(text.format(1)) == notes(text.format(2)) == {"variable:APP_A": "set by the project"}
    )


@pytest.mark.parametrize(
    ("name", "value", "fact"),
    [
        ("DB_HOST", "db.example", "address:DB_HOST"),
        ("DATABASE_URL", "postgres://u:pw@db.example:5432/shop", "address:DATABASE_URL"),
        ("DATABASE_URL", "postgres://u:hush-1@other/shop", "address:DATABASE_URL"),
        ("DB_HOST", "elsewhere", "variable:DB_HOST"),
        ("FEATURE", "db.example", "variable:FEATURE"),
        ("DB_URL", "http://[", "variable:DB_URL"),
    ],
)
def test_what_leads_to_a_database_is_an_address(
    notes: Notes, monkeypatch: pytest.MonkeyPatch, name: str, value: str, fact: str
) -> None:
    # Given
    monkeypatch.setenv(name, value)
    # Then
    assert list(
        notes(f"import os\nos.environ[{name!r}]\n", places=("db.example", "hush-1", ""))
    ) == [fact]


def test_the_environment_is_the_same_object_of_the_same_class_afterwards(noted: Variables) -> None:
    # Given
    before = os.environ
    # When
    noted.start()
    during = type(os.environ)
    noted.stop()
    # Then
    assert os.environ is before
    assert during is not os._Environ
    assert type(os.environ) is os._Environ
