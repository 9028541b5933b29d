"""Trees on a worker.

Exactly what the digest says, whatever the store holds and whatever tests did to them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dct_celery.adapters.source import snapshot
from dct_celery.adapters.source import tree as trees
from dct_celery.adapters.source.index import Index, TreeFile, TreeLink
from dct_celery.core.ids import digest_of
from dct_celery.errors import InfrastructureError
from tests.support.trees import Sent, make_tree


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "project")


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    return Sent(tmp_path / "worker" / "trees")


def homes(sent: Sent) -> list[str]:
    return sorted(os.listdir(sent.base))


def test_a_tree_arrives_as_it_was_with_every_mode(sent: Sent, project: Path) -> None:
    # Given
    (project / "app" / "key").write_text("")
    (project / "app" / "key").chmod(0o600)
    (project / "app" / "read-only").write_text("")
    (project / "app" / "read-only").chmod(0o444)
    (project / "run.sh").chmod(0o755)
    digest = sent.send(project)
    # When
    root = sent.trees.materialise(digest)
    # Then
    assert snapshot.take(root).digest == digest
    assert (root / "link").readlink() == Path("app/code.py")
    modes = {
        name: stat.S_IMODE((root / name).stat().st_mode)
        for name in ("app/key", "app/read-only", "run.sh")
    }
    assert modes == {"app/key": 0o600, "app/read-only": 0o444, "run.sh": 0o755}


def test_names_and_targets_that_are_no_utf_8_arrive(sent: Sent, project: Path) -> None:
    # Given
    (project / os.fsdecode(b"caf\xe9\n")).write_text("x")
    (project / "odd").symlink_to(os.fsdecode(b"nowhere\xff"))
    digest = sent.send(project)
    # When
    root = sent.trees.materialise(digest)
    # Then
    assert snapshot.take(root).digest == digest
    assert os.readlink(os.fsencode(root / "odd")) == b"nowhere\xff"
    assert sent.trees.materialise(digest) == root


def test_empty_folders_arrive_and_are_missed_when_they_are_gone(sent: Sent, project: Path) -> None:
    # Given
    (project / "media" / "uploads").mkdir(parents=True)
    digest = sent.send(project)
    # When
    root = sent.trees.materialise(digest)
    # Then
    assert (root / "media" / "uploads").is_dir()
    assert sent.trees.materialise(digest) == root
    # When
    (root / "media" / "uploads").rmdir()
    anew = sent.trees.materialise(digest)
    # Then
    assert anew != root
    assert (anew / "media" / "uploads").is_dir()


# -- what the store says is not believed -------------------------------------------------


def test_an_index_that_is_not_what_its_digest_says_is_not_used(sent: Sent, project: Path) -> None:
    # Given an attacker who puts another index under the digest of a run
    digest = sent.send(project)
    evil = Index((TreeFile("app/code.py", 0o644, 4, digest_of(b"evil")),))
    sent.blobs.put([(digest_of(b"evil"), b"evil"), (digest, evil.encode())])
    # When / Then
    with pytest.raises(InfrastructureError, match="no good copy of 'the index'"):
        sent.trees.materialise(digest)
    assert not list(sent.base.rglob("code.py"))


def test_a_blob_that_is_not_what_its_digest_says_is_not_used(sent: Sent, project: Path) -> None:
    # Given
    digest = sent.send(project)
    sent.blobs.put([(digest_of(b"x = 1\n"), b"x = 7\n")])
    # When / Then
    with pytest.raises(
        InfrastructureError, match=r"no good copy of 'app/code\.py'.*start the run again"
    ):
        sent.trees.materialise(digest)
    assert homes(sent) == []


@pytest.mark.parametrize(
    "text", ["", "..", "../../x", "/etc", "0" * 39, "A" * 40, "0" * 40 + "/x", "x" * 300]
)
def test_what_is_no_digest_has_no_effect(sent: Sent, text: str) -> None:
    with pytest.raises(InfrastructureError, match="is not a hash"):
        sent.trees.materialise(text)
    assert not sent.base.exists()


def test_a_file_below_a_link_is_refused(sent: Sent, tmp_path: Path) -> None:
    # Given
    sent.blobs.put([(digest_of(b"evil"), b"evil")])
    index = Index(
        (TreeFile("out/evil", 0o644, 4, digest_of(b"evil")),), (TreeLink("out", str(tmp_path)),)
    )
    # When / Then
    with pytest.raises(InfrastructureError, match="something lies below it"):
        sent.trees.materialise(sent.send_index(index))
    assert not (tmp_path / "evil").exists()


_NAMES = st.sampled_from(
    [
        "a",
        "b",
        "a/b",
        "a/b/c",
        "..",
        "../evil",
        "/evil",
        "a/../../evil",
        "link",
        "link/evil",
        "é",
        "\udcff",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(files=st.lists(_NAMES, max_size=4), links=st.lists(st.tuples(_NAMES, _NAMES), max_size=3))
def test_no_index_writes_outside_its_folder(
    tmp_path_factory: pytest.TempPathFactory, files: Any, links: Any
) -> None:
    # Given
    place = tmp_path_factory.mktemp("place")
    sent = Sent(place / "trees")
    content = b"evil"
    sent.blobs.put([(digest_of(content), content)])
    index = Index(
        tuple(TreeFile(path, 0o644, 4, digest_of(content)) for path in files),
        tuple(TreeLink(path, f"{place}/{target}") for path, target in links),
    )
    # When
    with contextlib.suppress(InfrastructureError):
        sent.trees.materialise(sent.send_index(index))
    # Then
    assert os.listdir(place) in ([], ["trees"])
    written = [
        path for path in (place / "trees").glob("**/*") if path.is_file() and not path.is_symlink()
    ]
    assert all(path.relative_to(place / "trees").parts[1] in ("tree", "whole") for path in written)


@given(st.binary(max_size=100))
def test_bytes_that_are_no_index_are_one_line(content: bytes) -> None:
    sent = Sent(Path("/nowhere-at-all"))
    with pytest.raises(InfrastructureError) as caught:
        sent.trees._find(sent.send_index(content), "")
    assert "\n" not in str(caught.value)


# -- a store that has lost something -----------------------------------------------------


def test_what_is_missing_or_damaged_is_asked_for_until_it_comes(sent: Sent, project: Path) -> None:
    # Given a store that has lost the index and damaged a file
    digest = sent.send(project)
    index = sent.blobs._blobs.pop(digest)
    code = digest_of(b"x = 1\n")
    sent.blobs.put([(code, b"broken")])
    asked: list[set[str]] = []

    def dispatcher() -> None:
        wanted = sent.blobs.wanted(digest)
        asked.append(wanted)
        if len(asked) > 3:
            sent.blobs.put([(name, index if name == digest else b"x = 1\n") for name in wanted])

    sent.clock.meanwhile = dispatcher
    # When
    root = sent.trees.materialise(digest)
    # Then
    assert (root / "app" / "code.py").read_text() == "x = 1\n"
    assert {digest} in asked
    assert {code} in asked


def test_a_dispatcher_that_sends_nothing_again_is_not_waited_for_for_ever(
    sent: Sent, project: Path
) -> None:
    # Given
    digest = sent.send(project)
    sent.blobs._blobs.clear()
    start = sent.clock.now
    # When / Then
    with pytest.raises(InfrastructureError, match="did not send one again"):
        sent.trees.materialise(digest)
    assert sent.clock.now - start < trees.PATIENCE + 2


# -- what tests did to a tree ------------------------------------------------------------


def _rewritten(root: Path) -> None:
    info = (root / "app" / "code.py").stat()
    (root / "app" / "code.py").write_text("x = 9\n")
    os.utime(root / "app" / "code.py", ns=(info.st_atime_ns, info.st_mtime_ns))


def _removed(root: Path) -> None:
    (root / "run.sh").unlink()


def _left_behind(root: Path) -> None:
    (root / "media").mkdir()
    (root / "media" / "upload.txt").write_text("")


def _shadowed(root: Path) -> None:
    (root / "app.py").write_text("")


def _empty_folder(root: Path) -> None:
    (root / "media").mkdir()


def _opened(root: Path) -> None:
    (root / "run.sh").chmod(0o777)


def _turned(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("run.sh")


def _moved_away(root: Path) -> None:
    (root / "app").rename(root.parent / "elsewhere")
    (root / "app").symlink_to(root.parent / "elsewhere")


def _whole_tree_moved_away(root: Path) -> None:
    root.rename(root.parent / "elsewhere")
    root.symlink_to("elsewhere")


def _bytecode_behind_a_link(root: Path) -> None:
    (root / "app" / "__pycache__").symlink_to(root)


def _a_folder_for_a_file(root: Path) -> None:
    (root / "run.sh").unlink()
    (root / "run.sh").mkdir()


_DEEDS = [
    _rewritten,
    _removed,
    _left_behind,
    _shadowed,
    _empty_folder,
    _opened,
    _turned,
    _moved_away,
    _whole_tree_moved_away,
    _bytecode_behind_a_link,
    _a_folder_for_a_file,
]


@pytest.mark.parametrize("restarted", [False, True], ids=["same-life", "restarted"])
@pytest.mark.parametrize("deed", _DEEDS, ids=lambda deed: deed.__name__.strip("_"))
def test_a_tree_that_was_changed_is_made_again(
    sent: Sent, project: Path, deed: Any, restarted: bool
) -> None:
    # Given
    digest = sent.send(project)
    deed(sent.trees.materialise(digest))
    # When
    root = (sent.restarted() if restarted else sent.trees).materialise(digest)
    # Then
    assert snapshot.take(root).digest == digest
    assert not root.is_symlink()
    assert not (root / "media").exists()
    assert [path.name for path in sent.base.iterdir()] == [root.parent.name], (
        "the other one is gone"
    )


@pytest.mark.parametrize("deed", [_moved_away, _turned, _whole_tree_moved_away])
def test_nothing_is_written_or_removed_through_a_link_that_a_test_left(
    sent: Sent, project: Path, tmp_path: Path, deed: Any
) -> None:
    # Given
    digest = sent.send(project)
    root = sent.trees.materialise(digest)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "code.py").write_text("mine")
    deed(root)
    link = next(path for path in (root, root / "app", root / "link") if path.is_symlink())
    link.unlink()
    link.symlink_to(precious)
    # When
    sent.trees.materialise(digest)
    # Then
    assert (precious / "code.py").read_text() == "mine"
    assert os.listdir(precious) == ["code.py"]


def test_a_tree_that_is_as_it_was_is_used_again_without_reading_it(
    sent: Sent, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a tree with bytecode
    digest = sent.send(project)
    root = sent.trees.materialise(digest)
    (root / "app" / "__pycache__").mkdir()
    (root / "app" / "__pycache__" / "code.pyc").write_bytes(b"")
    monkeypatch.setattr(trees, "digest_of", lambda content: pytest.fail("it was read"))
    # When / Then
    assert sent.trees.materialise(digest) == root
    assert (root / "app" / "__pycache__" / "code.pyc").exists()


def test_a_file_that_was_only_touched_is_read_and_used(sent: Sent, project: Path) -> None:
    # Given
    digest = sent.send(project)
    root = sent.trees.materialise(digest)
    os.utime(root / "app" / "code.py", (1, 1))
    # When / Then
    assert sent.trees.materialise(digest) == root


@pytest.fixture
def bytecode(sent: Sent, project: Path) -> Path:
    """A file of bytecode in a tree that was materialised."""
    root = sent.trees.materialise(sent.send(project))
    (root / "app" / "__pycache__").mkdir()
    (root / "app" / "__pycache__" / "code.pyc").write_bytes(b"")
    return root / "app" / "__pycache__" / "code.pyc"


def test_a_worker_that_is_started_again_uses_tree_and_bytecode_after_reading_every_file(
    sent: Sent, project: Path, bytecode: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    read: list[bytes] = []
    monkeypatch.setattr(
        trees, "digest_of", lambda content: (read.append(content), digest_of(content))[1]
    )
    # When
    root = sent.restarted().materialise(sent.send(project))
    # Then
    assert bytecode.is_relative_to(root)
    assert bytecode.exists()
    assert sorted(read) == [b"#!/bin/sh\n", b"x = 1\n"]


@pytest.mark.parametrize("restarted", [False, True], ids=["same-life", "restarted"])
def test_bytecode_of_a_file_that_was_another_one_for_a_while_goes(
    sent: Sent, project: Path, bytecode: Path, restarted: bool
) -> None:
    # Given a source that was changed and put back, with its times
    source = bytecode.parent.parent / "code.py"
    before = source.stat()
    source.write_text("x = 9\n")
    source.write_text("x = 1\n")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    # When
    found = sent.restarted() if restarted else sent.trees
    root = found.materialise(sent.send(project))
    # Then
    assert bytecode.is_relative_to(root)
    assert not bytecode.exists()
    # And from now on it stays again
    bytecode.parent.mkdir()
    bytecode.touch()
    found.materialise(sent.send(project))
    assert bytecode.exists()


def test_a_tree_whose_mark_is_gone_keeps_no_bytecode(
    sent: Sent, project: Path, bytecode: Path
) -> None:
    # Given
    (bytecode.parents[3] / "whole").unlink()
    # When
    sent.trees.materialise(sent.send(project))
    # Then
    assert not bytecode.exists()


def test_what_is_proven_of_a_changed_tree_is_moved_not_fetched(
    sent: Sent, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    digest = sent.send(project)
    root = sent.trees.materialise(digest)
    _rewritten(root)
    inode = (root / "run.sh").stat().st_ino
    asked: list[str] = []
    get = sent.blobs.get
    monkeypatch.setattr(sent.blobs, "get", lambda sizes: (asked.extend(sizes), get(sizes))[1])
    # When
    new = sent.trees.materialise(digest)
    # Then
    assert asked == [digest, digest_of(b"x = 1\n")]
    assert (new / "run.sh").stat().st_ino == inode
    assert sent.trees.materialise(digest) == new


def test_a_file_that_is_replaced_while_it_is_moved_is_fetched(
    sent: Sent, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that a test has left, and that is quicker than we
    digest = sent.send(project)
    _rewritten(sent.trees.materialise(digest))
    rename = os.rename

    def late(source: Path | str, target: Path | str, **folders: int) -> None:
        if isinstance(source, Path) and source.name == "run.sh":
            source.unlink()
            source.write_text("#!/bin/no\n")
        rename(source, target, **folders)

    monkeypatch.setattr(os, "rename", late)
    # When
    root = sent.trees.materialise(digest)
    # Then
    assert snapshot.take(root).digest == digest


def test_a_file_that_changed_a_moment_before_it_was_read_is_read_again(
    sent: Sent, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    digest = sent.send(project)
    os.utime(sent.trees.materialise(digest) / "run.sh", (1, 1))
    sent.trees.materialise(digest)
    read: list[bytes] = []
    monkeypatch.setattr(
        trees, "digest_of", lambda content: (read.append(content), digest_of(content))[1]
    )
    # When
    sent.trees.materialise(digest)
    # Then
    assert read == [b"#!/bin/sh\n"]


def test_a_tree_that_a_run_uses_gives_nothing_to_the_next_one(sent: Sent, project: Path) -> None:
    # Given
    digest = sent.send(project)
    sent.alive.add("run-one")
    first = sent.trees.materialise(digest, "run-one")
    _left_behind(first)
    # When
    sent.trees.materialise(digest, "run-two")
    # Then
    assert (first / "run.sh").exists()


def test_a_run_keeps_its_tree_while_the_next_one_gets_another(sent: Sent, project: Path) -> None:
    # Given a run whose tests write into their tree
    digest = sent.send(project)
    sent.alive.add("run-one")
    first = sent.trees.materialise(digest, "run-one")
    _left_behind(first)
    # When
    second = sent.trees.materialise(digest, "run-two")
    # Then
    assert second != first
    assert (first / "media" / "upload.txt").exists()
    # When it is over
    sent.alive.clear()
    sent.trees.materialise(digest, "run-three")
    # Then
    assert not first.exists()
    assert second.exists()


def test_only_a_few_old_trees_are_kept_and_none_in_use_goes(sent: Sent, project: Path) -> None:
    # Given / When
    sent.alive.add("run-0")
    roots = []
    for number in range(9):
        (project / "app" / "code.py").write_text(f"x = {number}\n")
        roots.append(sent.trees.materialise(sent.send(project), f"run-{number}"))
        os.utime(roots[-1].parent, (number, number))
    # Then
    assert [root.exists() for root in roots] == [True, False, False, *[True] * 6]


def test_what_a_killed_worker_was_writing_and_trees_of_an_older_version_go(
    sent: Sent, project: Path
) -> None:
    # Given
    sent.base.mkdir(parents=True)
    for name in ("new-abc", "0" * 40, "not-ours"):
        (sent.base / name).mkdir()
    (sent.base / f"{'0' * 40}.lock").touch()
    # When
    root = sent.trees.materialise(sent.send(project))
    # Then
    assert homes(sent) == sorted([root.parent.name, "not-ours"])


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(
    sent: Sent, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    digest = sent.send(project)
    monkeypatch.setattr(trees, "_write_file", full)
    # When / Then
    with pytest.raises(
        InfrastructureError, match=r"cannot be written below .*: No space left on device"
    ):
        sent.trees.materialise(digest)
    assert homes(sent) == []
