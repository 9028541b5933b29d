"""Snapshot and tree: what travels, and that it arrives as it was, run after run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from dct_celery.adapters.source import snapshot
from dct_celery.adapters.source.tree import Trees, check_checkout
from dct_celery.errors import ConfigError, InfrastructureError, UsageError


class Blobs:
    """The blob port in a dict."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def missing(self, digests: Sequence[str]) -> set[str]:
        return set(digests) - set(self.content)

    def put(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        self.content.update(blobs)

    def get(self, digests: Sequence[str]) -> dict[str, bytes]:
        return {digest: self.content[digest] for digest in digests if digest in self.content}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "app").mkdir(parents=True)
    (root / "app" / "code.py").write_text("x = 1\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("app/code.py")
    return root


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@t", *words], check=True, capture_output=True)


def paths(root: Path) -> list[str]:
    return [file.path for file in snapshot.take(root).files]


def uploaded(root: Path) -> tuple[Blobs, str]:
    taken = snapshot.take(root)
    blobs = Blobs()
    blobs.put((file.digest, snapshot.content(root, file)) for file in taken.files)
    blobs.put([(taken.digest, taken.index())])
    return blobs, taken.digest


def test_a_checkout_travels_with_dirty_and_untracked_files_and_without_ignored_and_deleted_ones(project: Path) -> None:
    # Given a checkout with one file of each kind
    git(project, "init", "-q")
    (project / ".gitignore").write_text("secret.env\n")
    (project / "gone.py").write_text("")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "first")
    (project / "gone.py").unlink()
    (project / "app" / "code.py").write_text("x = 2\n")
    (project / "new.py").write_text("")
    (project / "secret.env").write_text("KEY=1")
    # When
    files = {file.path: file for file in snapshot.take(project).files}
    # Then
    assert sorted(files) == [".gitignore", "app/code.py", "link", "new.py", "run.sh"]
    assert files["app/code.py"].digest == snapshot.digest_of(b"x = 2\n")


def test_a_folder_without_git_travels_without_caches_and_environments(project: Path) -> None:
    # Given
    for name in ("__pycache__", ".venv", "node_modules"):
        (project / name).mkdir()
        (project / name / "thing.py").write_text("")
    (project / "env-of-mine").mkdir()
    (project / "env-of-mine" / "pyvenv.cfg").write_text("")
    # When / Then
    assert paths(project) == ["app/code.py", "link", "run.sh"]
    assert snapshot.find_root(project) == project


def test_the_root_is_the_top_of_the_checkout(project: Path) -> None:
    # Given
    git(project, "init", "-q")
    # When / Then
    assert snapshot.find_root(project / "app") == project


def test_a_checkout_without_the_git_program_is_refused_not_walked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    (project / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    # When / Then
    with pytest.raises(UsageError, match="not installed"):
        snapshot.take(snapshot.find_root(project))


def test_equal_trees_have_equal_digests_and_a_mode_makes_a_difference(project: Path) -> None:
    # Given
    before = snapshot.take(project).digest
    os.utime(project / "run.sh", (1, 1))
    assert snapshot.take(project).digest == before
    # When
    (project / "run.sh").chmod(0o644)
    # Then
    assert snapshot.take(project).digest != before


def test_a_file_too_large_to_travel_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr(snapshot, "MAX_FILE", 3)
    # When / Then
    with pytest.raises(UsageError, match=r"app/code\.py"):
        snapshot.take(project)


def test_a_tree_arrives_as_it_was(project: Path, tmp_path: Path) -> None:
    # Given
    blobs, digest = uploaded(project)
    # When
    root = Trees(tmp_path / "trees", blobs).materialise(digest)
    # Then
    assert snapshot.take(root).digest == digest
    assert (root / "link").readlink() == Path("app/code.py")
    assert os.access(root / "run.sh", os.X_OK)


def test_what_tests_did_to_a_tree_is_undone_before_the_next_run(project: Path, tmp_path: Path) -> None:
    # Given a tree whose file was rewritten, another removed, a stranger left and bytecode written
    blobs, digest = uploaded(project)
    trees = Trees(tmp_path / "trees", blobs)
    root = trees.materialise(digest)
    (root / "app" / "code.py").write_text("x = 9\n")
    (root / "run.sh").unlink()
    (root / "media").mkdir()
    (root / "media" / "upload.txt").write_text("")
    (root / "app" / "__pycache__").mkdir()
    (root / "app" / "__pycache__" / "code.pyc").write_bytes(b"of x = 9")
    # When
    trees.materialise(digest)
    # Then
    assert snapshot.take(root).digest == digest
    assert not (root / "app" / "__pycache__").exists()
    assert not (root / "media").exists()


def test_bytecode_of_an_untouched_tree_stays_for_the_next_run(project: Path, tmp_path: Path) -> None:
    # Given
    blobs, digest = uploaded(project)
    trees = Trees(tmp_path / "trees", blobs)
    root = trees.materialise(digest)
    (root / "app" / "__pycache__").mkdir()
    (root / "app" / "__pycache__" / "code.pyc").write_bytes(b"")
    # When
    trees.materialise(digest)
    # Then
    assert (root / "app" / "__pycache__" / "code.pyc").exists()


def test_a_blob_that_is_missing_or_damaged_is_named(project: Path, tmp_path: Path) -> None:
    # Given
    blobs, digest = uploaded(project)
    blobs.content[snapshot.digest_of(b"x = 1\n")] = b"x = 7\n"
    # When / Then
    with pytest.raises(InfrastructureError, match=r"no good copy of (app/code\.py|link)"):
        Trees(tmp_path / "trees", blobs).materialise(digest)


def test_a_path_outside_the_tree_is_refused(tmp_path: Path) -> None:
    # Given an index that somebody forged
    blobs = Blobs()
    content = snapshot.digest_of(b"evil")
    index = snapshot.Snapshot("", (snapshot.TreeFile("../evil", content, "f", 4),)).index()
    blobs.put([(content, b"evil"), (snapshot.digest_of(index), index)])
    # When / Then
    with pytest.raises(InfrastructureError, match="outside"):
        Trees(tmp_path / "trees", blobs).materialise(snapshot.digest_of(index))
    assert not list(tmp_path.rglob("evil"))


def test_only_a_few_old_trees_are_kept(project: Path, tmp_path: Path) -> None:
    # Given / When
    for number in range(8):
        (project / "app" / "code.py").write_text(f"x = {number}\n")
        blobs, digest = uploaded(project)
        Trees(tmp_path / "trees", blobs).materialise(digest)
    # Then
    assert len([path for path in (tmp_path / "trees").iterdir() if path.is_dir()]) == 6


def test_a_checkout_that_differs_is_refused_with_both_hashes(project: Path) -> None:
    # Given
    digest = snapshot.take(project).digest
    assert check_checkout(project, digest) == project
    (project / "app" / "code.py").write_text("x = 2\n")
    # When / Then
    with pytest.raises(ConfigError, match=digest[:12]):
        check_checkout(project, digest)
