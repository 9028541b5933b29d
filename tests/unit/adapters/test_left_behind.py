"""Claims about `adapters.source.left_behind`: what misses a file of this machine says so."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from dct_celery.adapters.source import left_behind, snapshot
from dct_celery.adapters.source.left_behind import LeftBehind
from dct_celery.adapters.source.snapshot import Selection
from dct_celery.core.globs import Globs
from tests.support.trees import git


def catalogue(messages: Mapping[str, str]) -> bytes:
    """A compiled one, as msgfmt makes it."""
    ids = sorted({"": "Content-Type: text/plain; charset=utf-8\n", **messages}.items())
    count, texts = len(ids), [[pair[side].encode() for pair in ids] for side in (0, 1)]
    place = 28 + 16 * count
    tables, bodies = [b"", b""], b""
    for side, column in enumerate(texts):
        for text in column:
            tables[side] += struct.pack("<II", len(text), place + len(bodies))
            bodies += text + b"\0"
    header = struct.pack("<IIIIIII", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0)
    return header + tables[0] + tables[1] + bodies


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with some files that git ignores."""
    files = {
        ".gitignore": "*.mo\n_version.py\n/generated/\n*.log\n",
        "src/shop/__init__.py": "",
        "src/shop/_version.py": "",
        "src/shop/templates/made.html": "",
        "src/shop/fixtures/big.json": "",
        "generated/data.json": "",
        "generated/templates/late.html": "",
        "generated/fixtures/huge.json": "",
        "generated/staticfiles.json": "",
        "site/report.csv": "",
        "node_modules/x/late.html": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    folder = tmp_path / "locale/fr/LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "django.mo").write_bytes(catalogue({"shelf of apples": "etagere", "ab": "cd"}))
    git(tmp_path, "init", "-q")
    return tmp_path


def hint(project: Path, text: str, *, exclude: tuple[str, ...] = ()) -> str:
    selection = Selection(exclude=Globs(exclude))
    taken = snapshot.take(project, selection)
    return LeftBehind(taken, selection, ("src", "site")).hint(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: 'generated/data.json'",
         "generated/data.json"),
        ("FileNotFoundError: [Errno 2] No such file or directory: "
         "'/srv/work/trees/0123456789abcdef.a_b1/tree/generated/data.json'", "generated/data.json"),
        ("ModuleNotFoundError: No module named 'shop._version'", "src/shop/_version.py"),
        ("ImportError: cannot import name '_version' from 'shop' (src/shop/__init__.py)",
         "src/shop/_version.py"),
        ("ImportError: cannot import name '_version' from partially initialized module 'shop' (most"
         " likely due to a circular import) (src/shop/__init__.py)", "src/shop/_version.py"),
        ("django.template.exceptions.TemplateDoesNotExist: late.html",
         "generated/templates/late.html"),
        ("CommandError: No fixture named 'huge' found.", "generated/fixtures/huge.json"),
        ("ValueError: Missing staticfiles manifest entry for 'a.css'",
         "generated/staticfiles.json"),
        ("AssertionError: 'shelf of apples' != 'x'", "locale/fr/LC_MESSAGES/django.mo"),
        ("AssertionError: 'x' != 'etagere'", "locale/fr/LC_MESSAGES/django.mo"),
    ],
)  # fmt: skip
def test_a_file_that_a_failure_is_about_is_named(project: Path, text: str, path: str) -> None:
    # When
    found = hint(project, f"Traceback (most recent call last):\n  File 'x'\n{text}\n")
    # Then
    glob = "*.mo" if path.endswith(".mo") else path
    assert found == (f"{path} is ignored by git and did not travel; include it: --include '{glob}'")


def test_one_that_is_excluded_is_said_to_be_so(project: Path) -> None:
    # When
    found = hint(project, "No such file or directory: 'report.csv'", exclude=("*.csv",))
    # Then
    assert found.startswith("site/report.csv is left out by exclude and did not travel")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AssertionError: 'a' != 'b'",
        "AssertionError: 'ab' != 'cd'",
        "No such file or directory: 'src/shop/templates/made.html'",
        "No such file or directory: 'nowhere.json'",
        "No such file or directory: '../../etc/passwd'",
        "No such file or directory: '/etc/passwd'",
        "No such file or directory: '.git/config'",
        "No module named 'shop.other'",
        "No fixture named 'big' found.",
        "'\0'",
        "'" + "x" * 500 + "'",
    ],
)
def test_what_is_not_about_a_file_of_ours_has_no_hint(project: Path, text: str) -> None:
    assert hint(project, text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "CalledProcessError: Command '['git', 'rev-parse', 'HEAD']' returned non-zero exit status",
        "Command '['git', 'diff', '--stat']' returned non-zero exit status 128.",
        "fatal: not a git repository (or any of the parent directories): .git",
        "git.exc.InvalidGitRepositoryError: /srv/work",
    ],
)
def test_who_asks_git_is_told_that_it_is_not_there(project: Path, text: str) -> None:
    assert hint(project, text).startswith("the tree on a worker is no git repository, or")


def test_catalogues_are_compared_with_a_bounded_number_of_failures(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(left_behind, "_COMPARED", 1)
    here = LeftBehind(snapshot.take(project), Selection())
    # Then
    assert here.hint("'etagere'")
    assert not here.hint("'etagere'")


def test_a_catalogue_that_is_none_costs_nothing(project: Path) -> None:
    # Given
    (project / "locale/fr/LC_MESSAGES/django.mo").write_bytes(b"no catalogue")
    # Then
    assert hint(project, "'etagere'") == ""


def test_where_git_ignores_nothing_or_is_missing_there_is_no_hint(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    here = LeftBehind(snapshot.take(project), Selection())
    monkeypatch.setenv("PATH", "")
    # Then
    assert here.hint("'etagere'") == ""
