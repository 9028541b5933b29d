"""Claims about `adapters.source.git_facts`: a worker's tree answers git as the checkout does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dct_celery.adapters.source import git_facts, snapshot
from dct_celery.adapters.source.snapshot import Selection
from dct_celery.adapters.source.upload import Upload
from dct_celery.core.globs import Globs
from tests.support.trees import Clock, Sent, git, make_tree

_ASKING = "import subprocess\nsubprocess.run(['git', 'rev-parse', 'HEAD'])\n"
_QUESTIONS = (
    "rev-parse HEAD",
    "rev-parse --abbrev-ref HEAD",
    "describe",
    "describe --tags --long",
    "describe --tags --always --dirty",
    "rev-list --count HEAD",
    "log -1 --format=%H%an%s",
    "status --porcelain",
    "tag --points-at HEAD",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with tags of both kinds, a merge, and one file that asks git."""
    project = make_tree(tmp_path / "project")
    (project / "app" / "version.py").write_text(_ASKING)
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "first")
    git(project, "tag", "-am", "annotated", "v1.0")
    git(project, "checkout", "-q", "-b", "side")
    git(project, "commit", "-q", "--allow-empty", "-m", "beside")
    git(project, "checkout", "-q", "main")
    git(project, "commit", "-q", "--allow-empty", "-m", "second")
    git(project, "tag", "light")
    git(project, "merge", "-q", "--no-ff", "-m", "merged", "side")
    return project


def answers(root: Path) -> list[tuple[int, str]]:
    found = []
    for words in _QUESTIONS:
        done = subprocess.run(
            ["git", "-C", str(root), *words.split()], capture_output=True, text=True, check=False
        )
        found.append((done.returncode, done.stdout))
    return found


def arrived(project: Path, base: Path) -> Path:
    """The tree as a worker has it."""
    sent, upload = Sent(base), Upload(Selection(), Clock(), print)
    return sent.trees.materialise(upload.send(project, sent.blobs)[0].digest)


@pytest.mark.parametrize("state", ["clean", "dirty", "detached", "shallow", "worktree"])
def test_git_answers_on_a_worker_as_it_does_here(project: Path, tmp_path: Path, state: str) -> None:
    # Given
    if state == "dirty":
        (project / "app" / "code.py").write_text("x = 2\n")
        (project / "new.py").touch()
        (project / "run.sh").unlink()
    elif state == "detached":
        git(project, "checkout", "-q", "HEAD~1")
    elif state == "shallow":
        git(tmp_path, "clone", "-q", "--depth", "2", f"file://{project}", str(tmp_path / "other"))
        project = tmp_path / "other"
    elif state == "worktree":
        git(project, "worktree", "add", "-q", str(tmp_path / "other"), "side")
        project = tmp_path / "other"
    # When
    root = arrived(project, tmp_path / "worker")
    # Then
    assert answers(root) == answers(project)


def test_equal_states_make_equal_trees_however_git_stores_them(project: Path) -> None:
    # Given
    before = snapshot.take(project).digest
    # When
    git(project, "gc", "-q", "--aggressive", "--prune=now")
    git(project, "status")
    # Then
    assert snapshot.take(project).digest == before


def test_no_content_of_another_commit_nor_any_configuration_goes_along(project: Path) -> None:
    # Given
    (project / "secret.py").write_text("KEY = 'hush-of-the-past'\n")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "oops")
    git(project, "rm", "-q", "secret.py")
    git(project, "commit", "-qm", "gone")
    git(project, "remote", "add", "origin", "https://user:hush@example.com/x")
    # When
    made = git_facts.files(project)
    # Then
    assert not [path for path, content in made.items() if b"hush" in content]
    base = project.parent / "copy"
    for path, content in made.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_bytes(content)
    (base / git_facts.FOLDER).mkdir()
    objects = subprocess.run(
        ["git", "-C", str(base), "cat-file", "--batch-all-objects", "--batch-check"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    blobs = [row.split()[0] for row in objects if " blob " in row]
    targets = [
        subprocess.check_output(["git", "-C", str(base), "cat-file", "blob", one]) for one in blobs
    ]
    assert targets == [b"app/code.py"]  # of the link


@pytest.mark.parametrize(
    "text",
    [
        _ASKING,
        "os.system('git describe --tags')\n",
        "from setuptools_scm import get_version\n",
        "import git\n",
        "open(BASE / '.git/HEAD')\n",
        "Path('.git')\n",
        "from dulwich.repo import Repo\n",
    ],
)
def test_who_mentions_git_gets_it(project: Path, text: str) -> None:
    # Given
    (project / "app" / "version.py").write_text(text)
    # Then
    assert ".git/HEAD" in snapshot.take(project).index.paths


@pytest.mark.parametrize("text", ["x = 1\n", "# a digit, a widget\n", "legit = 'github.com'\n"])
def test_who_does_not_mention_it_gets_none(project: Path, text: str) -> None:
    # Given
    (project / "app" / "version.py").write_text(text)
    # Then
    assert not [path for path in snapshot.take(project).index.paths if path.startswith(".git/")]


def test_it_can_be_excluded_and_is_no_part_of_a_comparison(project: Path) -> None:
    excluded = snapshot.take(project, Selection(exclude=Globs((".git",))))
    compared = snapshot.take(project, git_modes=True)
    for taken in (excluded, compared):
        assert not taken.made
        assert not [path for path in taken.index.paths if path.startswith(".git/")]


@pytest.mark.parametrize("why", ["no commit", "no git", "too many"])
def test_where_git_cannot_tell_there_is_none(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    # Given
    if why == "no commit":
        shutil.rmtree(project / ".git")
        git(project, "init", "-q")
    elif why == "no git":
        monkeypatch.setenv("PATH", os.devnull)
    else:
        monkeypatch.setattr(git_facts, "_MOST_COMMITS", 2)
    # Then
    assert git_facts.files(project) == {}
