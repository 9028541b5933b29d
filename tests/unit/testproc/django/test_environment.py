"""Claims about `testproc.django.environment`: which distributions a project uses."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dct_celery.testproc.django import environment

Install = Callable[..., None]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages on sys.path; what is imported from it is forgotten afterwards."""
    folder = tmp_path / "venv" / "site-packages"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        sys.modules.pop(name)


@pytest.fixture
def install(site: Path) -> Install:
    """Adds a distribution with these files."""

    def add(name: str, version: str, *files: str, folder: Path = site) -> None:
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()

    return add


def loaded(root: Path) -> set[str]:
    return set(environment.used(str(root), ".")["loaded"].split(","))


def declared(root: Path, directory: str = ".") -> str:
    return environment.used(str(root), directory)["declared"]


def test_a_distribution_is_used_once_one_of_its_modules_is_imported(
    install: Install, tmp_path: Path
) -> None:
    # Given
    install("PyYolk", "1.0", "yolk_one/__init__.py", "yolk_one/inner.py")
    install("yolk_two", "2.0", "yolk_two/__init__.py")
    install("yolk_three", "3.0", "yolk_three.py")
    install("yolk_four", "4.0", "yolk_four.py")
    # When
    for name in ("yolk_one", "yolk_two", "yolk_three"):
        importlib.import_module(name)
    # Then
    assert environment.describe()["package:pyyolk"] == "1.0"
    assert loaded(tmp_path / "project") >= {"pyyolk", "yolk-two", "yolk-three"}
    assert "yolk-four" not in loaded(tmp_path / "project")


def test_parts_of_a_namespace_are_told_apart(install: Install, tmp_path: Path) -> None:
    # Given
    install("yolkspace_red", "1.0", "yolkspace/red/__init__.py")
    install("yolkspace_blue", "1.0", "yolkspace/blue/__init__.py")
    # When
    importlib.import_module("yolkspace.red")
    # Then
    assert "yolkspace-red" in loaded(tmp_path / "project")
    assert "yolkspace-blue" not in loaded(tmp_path / "project")


def test_the_project_installed_in_place_is_no_package(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    project = tmp_path / "project"
    install("yolkshop", "0.1", "yolkshop/__init__.py", folder=project)
    monkeypatch.syspath_prepend(str(project))
    importlib.import_module("yolkshop")
    # Then
    assert "yolkshop" not in loaded(project)


def test_what_was_there_before_the_project_is_not_used_by_it(tmp_path: Path) -> None:
    assert "pytest" not in loaded(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("requirements.txt", "# ours\nDjango>=5\n-r more.txt\nboto3==1 # why\nhttps://x/y.whl\n"),
        ("dev-requirements.txt", "django\nBoto3[crt] ; python_version > '3'\n"),
        ("requirements/test.txt", "django\nboto3 @ git+https://x\n"),
        ("pyproject.toml", '[project]\ndependencies = ["django>5"]\n'
         '[dependency-groups]\ndev = ["boto3", {include-group = "x"}]\n'),
        ("pyproject.toml", '[tool.poetry.dependencies]\npython = "3"\ndjango = "^5"\n'
         '[tool.poetry.group.dev.dependencies]\nboto3 = "*"\n'),
        ("uv.lock", '[[package]]\nname = "django"\n[[package]]\nname = "boto3"\n'),
        ("poetry.lock", '[[package]]\nname = "Django"\n[[package]]\nname = "boto3"\n'),
        ("Pipfile.lock", json.dumps({"default": {"django": {}}, "develop": {"boto3": {}}})),
    ],
)  # fmt: skip
def test_requirements_and_lock_files_name_distributions(
    tmp_path: Path, file: str, text: str
) -> None:
    # Given
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    # Then
    assert declared(tmp_path) == "boto3,django"
    assert declared(tmp_path.parent, tmp_path.name) == "boto3,django"


@pytest.mark.parametrize("file", ["pyproject.toml", "Pipfile.lock", "uv.lock", "requirements.txt"])
def test_a_file_that_cannot_be_read_names_nothing(tmp_path: Path, file: str) -> None:
    # Given
    (tmp_path / file).write_bytes(b"\xff[[[ = {")
    # Then
    assert declared(tmp_path) == ""
