"""Claims about `adapters.source.git_facts`: a worker's tree answers git as the checkout does."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
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
    "rev-parse --short HEAD",
    "rev-parse --abbrev-ref HEAD",
    "describe",
    "describe --tags --long",
    "describe --tags --always --dirty",
    "rev-list --count HEAD",
    "log -1 --format=%H%an%s",
    "show -s --format=%ct HEAD",
    "status --porcelain",
    "diff --cached --name-status",
    "tag --sort=-v:refname",
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
            ["git", "-C", str(root), *words.split()], capture_output=True, check=False
        )
        found.append((done.returncode, os.fsdecode(done.stdout)))
    return found


def arrived(project: Path, base: Path, *exclude: str) -> Path:
    """The tree as a worker has it."""
    selection = Selection(exclude=Globs(exclude))
    sent, upload = Sent(base), Upload(selection, Clock(), print)
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


def _filtered(project: Path) -> None:
    """As with Git LFS: the file is other than what is committed, and a filter says they match."""
    (project / ".gitattributes").write_text("*.bin filter=upper\n")
    (project / "it.bin").write_text("content\n")
    git(project, "config", "filter.upper.clean", "tr a-z A-Z")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "filtered")


def _staged(project: Path) -> None:
    (project / "app" / "code.py").write_text("x = 2\n")
    (project / "new.py").write_text("x = 3\n")
    git(project, "add", "-A")
    git(project, "mv", "run.sh", "other.sh")


def _without_modes(project: Path) -> None:
    """As on a file system that knows none."""
    git(project, "config", "core.fileMode", "false")
    (project / "app" / "code.py").chmod(0o755)


def _configured(project: Path) -> None:
    git(project, "config", "core.splitIndex", "true")
    git(project, "config", "core.abbrev", "12")  # as where there are many objects
    git(project, "config", "diff.relative", "true")
    git(project, "status")


def _named_by_bytes(project: Path) -> None:
    for kind, name in (("tag", b"caf\xe9"), ("tag", "a\u2028b".encode()), ("branch", b"br\xe9")):
        git(project, kind, os.fsdecode(name))
    git(project, "checkout", "-q", os.fsdecode(b"br\xe9"))


def _with_a_tag_elsewhere(project: Path) -> None:
    git(project, "checkout", "-q", "-b", "stable")
    git(project, "commit", "-q", "--allow-empty", "-m", "fix")
    git(project, "tag", "v9.0")
    git(project, "checkout", "-q", "main")


def _in_a_conflict(project: Path) -> None:
    for branch, text in (("other", "x = 5\n"), ("main", "x = 6\n")):
        git(project, "checkout", "-q", *(["-b"] if branch == "other" else []), branch)
        (project / "app" / "code.py").write_text(text)
        git(project, "commit", "-qam", branch)
    with contextlib.suppress(subprocess.CalledProcessError):
        git(project, "merge", "other")


@pytest.mark.parametrize(
    "prepare",
    [
        _filtered,
        _staged,
        _without_modes,
        _configured,
        _named_by_bytes,
        _with_a_tag_elsewhere,
        _in_a_conflict,
    ],
)
def test_what_decides_an_answer_beside_the_files_travels(
    project: Path, tmp_path: Path, prepare: Callable[[Path], None]
) -> None:
    # Given
    prepare(project)
    # When
    root = arrived(project, tmp_path / "worker")
    # Then
    assert answers(root) == answers(project)


def test_a_tree_without_what_is_excluded_is_not_dirty(project: Path, tmp_path: Path) -> None:
    # Given
    (project / "docs").mkdir()
    (project / "docs" / "index.md").write_text("it\n")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "docs")
    # When
    root = arrived(project, tmp_path / "worker", "docs/")
    # Then
    assert not (root / "docs" / "index.md").exists()
    assert answers(root) == answers(project)


def test_bytecode_is_ignored_where_only_the_user_of_this_machine_ignores_it(
    project: Path, tmp_path: Path
) -> None:
    # Given
    (project / ".git" / "info" / "exclude").write_text("__pycache__/\n")
    root = arrived(project, tmp_path / "worker")
    # When
    (root / "app" / "__pycache__").mkdir()
    (root / "app" / "__pycache__" / "code.cpython-311.pyc").touch()
    # Then
    assert answers(root) == answers(project)


def test_a_repository_inside_answers_for_itself(project: Path, tmp_path: Path) -> None:
    # Given
    library = make_tree(tmp_path / "library")
    git(library, "init", "-q", "-b", "trunk")
    git(library, "add", "-A")
    git(library, "commit", "-qm", "of the library")
    git(project, "-c", "protocol.file.allow=always", "submodule", "add", str(library), "libs/one")
    git(project, "commit", "-qm", "with a library")
    (project / "libs" / "one" / "app" / "code.py").write_text("x = 7\n")
    # When
    root = arrived(project, tmp_path / "worker")
    # Then
    for below in (".", "libs/one"):
        assert answers(root / below) == answers(project / below)


def test_code_that_reads_the_branch_from_its_file_finds_it(project: Path, tmp_path: Path) -> None:
    # When
    root = arrived(project, tmp_path / "worker")
    # Then
    for path in (".git/HEAD", ".git/refs/heads/main"):
        assert (root / path).read_bytes() == (project / path).read_bytes()


def test_a_hook_of_git_sends_what_the_same_command_sends_elsewhere(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    (project / ".gitignore").write_text("*.secret\n")
    (project / "app" / "it.secret").touch()
    git(project, "init", "-q", str(tmp_path / "other"))
    before = snapshot.take(snapshot.find_root(project / "app")).digest
    # When
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index.lock"))
    # Then
    assert snapshot.take(snapshot.find_root(project / "app")).digest == before


def test_the_checkout_is_left_as_it_was(project: Path) -> None:
    # Given
    os.utime(project / "app" / "code.py", (1, 1))  # git would note that it is unchanged
    before = {path: path.read_bytes() for path in (project / ".git").rglob("*") if path.is_file()}
    # When
    git_facts.files(project, set())
    # Then
    after = {path: path.read_bytes() for path in (project / ".git").rglob("*") if path.is_file()}
    assert after == before


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
    made = git_facts.files(project, snapshot.take(project).paths)
    # Then
    assert not [path for path, content in made.items() if b"hush" in content]
    base = project.parent / "copy"
    for path, content in made.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_bytes(content)
    for folder in git_facts.folders(made):
        (base / folder).mkdir(parents=True)
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
    assert git_facts.files(project, set()) == {}
