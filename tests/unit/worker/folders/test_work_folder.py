"""Clones on their way through a run's folder: each file is in one place, and of two takers one
wins.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from dct_celery.core import codec
from dct_celery.core.run.leases import LeaseRef
from dct_celery.errors import InfrastructureError
from dct_celery.ports import DatabaseSpec
from dct_celery.worker.folders.work_folder import PublishedRun, RunFolder, WorkFolder
from dct_celery.worker.slot.spool import Spool


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def test_a_spare_becomes_the_takers_clone(folder: RunFolder) -> None:
    # Given
    folder.clones.note("test_a", "default")
    folder.clones.add_spare("test_a", "default", "t")
    # When
    name = folder.clones.take_spare("default", "t")
    # Then
    assert name == "test_a"
    assert folder.clones.in_use() == [("test_a", "default")]
    assert folder.clones.spares("default", "t") == []


def test_a_spare_of_another_alias_or_kind_is_not_taken(folder: RunFolder) -> None:
    # Given
    folder.clones.note("test_a", "default")
    folder.clones.add_spare("test_a", "default", "t")
    # Then
    assert folder.clones.take_spare("other", "t") is None
    assert folder.clones.take_spare("default", "f") is None


def test_of_many_takers_one_gets_the_spare(folder: RunFolder) -> None:
    # Given
    folder.clones.note("test_a", "default")
    folder.clones.add_spare("test_a", "default", "t")
    taken: list[str | None] = []
    # When
    threads = [
        threading.Thread(target=lambda: taken.append(folder.clones.take_spare("default", "t")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then
    assert sorted(name for name in taken if name) == ["test_a"]


def test_a_retired_clone_can_be_reclaimed_once(folder: RunFolder) -> None:
    # Given
    folder.clones.note("test_a", "default")
    # When
    folder.clones.retire("test_a")
    # Then
    assert folder.clones.in_use() == []
    assert folder.clones.retired() == [("test_a", "default")]
    assert folder.clones.reclaim("default") == "test_a"
    assert folder.clones.reclaim("default") is None
    assert folder.clones.in_use() == [("test_a", "default")]


def test_what_is_in_the_making_is_known_by_alias_and_kind(folder: RunFolder) -> None:
    # When
    with folder.clones.making("My/Alias", "f"):
        # Then
        assert folder.clones.is_making("My/Alias", "f")
        assert not folder.clones.is_making("My/Alias", "t")
        assert not folder.clones.is_making("alias", "f")
    assert not folder.clones.is_making("My/Alias", "f")


def test_aliases_that_end_alike_are_told_apart(folder: RunFolder) -> None:
    # Given
    with folder.clones.making("other", "t"):
        # Then
        assert not folder.clones.is_making("her", "t")


def _spec(host: str, alias: str = "default") -> DatabaseSpec:
    return DatabaseSpec(
        alias, "postgresql", "shop", host, user="ci", password="s", aliases=(alias,)
    )


def test_servers_are_remembered_once_each_for_the_owner_alone(tmp_path: Path) -> None:
    # Given
    folder = WorkFolder(tmp_path)
    # When
    folder.remember_servers([_spec("a"), _spec("b")])
    folder.remember_servers([_spec("a", alias="other")])
    # Then
    assert [spec.host for spec in folder.servers()] == ["b", "a"]
    assert stat.S_IMODE((tmp_path / "servers.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", [b"{", b"{}", b"3", b"\xff", b"[" * 100_000], ids=lambda text: repr(text[:9])
)
def test_a_broken_list_of_servers_is_an_empty_one(tmp_path: Path, text: bytes) -> None:
    # Given
    (tmp_path / "servers.json").write_bytes(text)
    # Then
    assert WorkFolder(tmp_path).servers() == []


def test_only_the_latest_servers_are_kept(tmp_path: Path) -> None:
    # Given
    folder = WorkFolder(tmp_path)
    # When
    for number in range(30):
        folder.remember_servers([_spec(f"host-{number}")])
    # Then
    assert [spec.host for spec in folder.servers()] == [
        f"host-{number}" for number in range(10, 30)
    ]
    assert json.loads((tmp_path / "servers.json").read_text())


def test_servers_that_another_version_wrote_down_are_left_out(tmp_path: Path) -> None:
    # Given
    good = codec.encode(_spec("a"))
    (tmp_path / "servers.json").write_text(
        json.dumps([{"vendor": "x"}, {**good, "gone": 1}, "text", {**good, "port": 5432}, good])
    )
    # Then
    assert WorkFolder(tmp_path).servers() == [_spec("a")]


def test_unused_caches_of_templates_are_pruned(tmp_path: Path) -> None:
    # Given
    folder = WorkFolder(tmp_path)
    old, new = folder.template_cache("a" * 64), folder.template_cache("b" * 64)
    for cache in (old, new):
        cache.mkdir(parents=True)
    os.utime(old, (1000, 1000))
    # When
    folder.prune_template_caches(oldest=2000)
    # Then
    assert not old.exists()
    assert new.exists()


def test_a_slots_cache_shows_the_users_and_keeps_what_is_new_to_itself(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a user who has installed a browser for tests
    (tmp_path / "home" / ".cache" / "browsers").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    # When
    one, other = folder.cache(0), folder.cache(1)
    (one / "new").touch()
    # Then
    assert (one / "browsers").is_dir()
    assert folder.cache(0) == one
    assert os.listdir(other) == ["browsers"]
    assert os.listdir(tmp_path / "home" / ".cache") == ["browsers"]


def test_a_pool_child_that_follows_a_killed_one_gets_fork_folders_of_its_own(
    tmp_path: Path,
) -> None:
    # Given the folder of the first fork of the one that was killed
    folder = RunFolder(tmp_path / "run")
    first = folder.fork_folder("0-0-1")
    # When its follower counts from the beginning
    second = folder.fork_folder("0-0-1")
    # Then
    assert first != second
    assert first.is_dir()
    assert second.is_dir()


def test_a_forks_temporary_folder_has_a_short_path_and_goes_with_the_run(tmp_path: Path) -> None:
    # Given
    run = RunFolder(tmp_path / "a-run-whose-path-is-long" / ("x" * 60))
    folder = run.temporary(run.fork_folder("0"))
    (folder / "file").touch()
    # Then
    assert len(str(folder)) < len(tempfile.gettempdir()) + 20
    run.remove()
    assert not folder.exists()


def test_a_link_that_leads_elsewhere_takes_nothing_with_it(tmp_path: Path) -> None:
    # Given a test that has replaced the link
    run = RunFolder(tmp_path / "run")
    fork = run.fork_folder("0")
    run.temporary(fork).rmdir()
    (fork / "tmp").unlink()
    (fork / "tmp").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").mkdir()
    # When
    run.remove()
    # Then
    assert (tmp_path / "precious").is_dir()


# -- what the host publishes for the slots -------------------------------------------------------

PUBLISHED = PublishedRun(
    "0123456789abcdef",
    "id-of-key",
    (_spec("a"),),
    "key",
    "owner",
    {"default": "/rows"},
    3.0,
    None,
    2,
)


def test_only_slots_read_what_the_host_publishes(folder: RunFolder) -> None:
    # When
    folder.publish(PUBLISHED)
    # Then
    assert folder.published() == PUBLISHED
    assert stat.S_IMODE((folder.path / "host.json").stat().st_mode) == 0o600
    # And when it is taken back
    folder.unpublish()
    assert folder.published() is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        codec.dumps(PUBLISHED).replace('"slots":2', '"slots":"2"').encode(),
    ],
    ids=lambda text: repr(text[:9]),
)
def test_a_published_run_that_is_damaged_is_none(folder: RunFolder, text: bytes) -> None:
    # Given
    (folder.path / "host.json").write_bytes(text)
    # Then
    assert folder.published() is None


_NO_NAMES = [
    "",
    ".",
    "..",
    "../..",
    "/",
    "/etc",
    "a/b",
    "run\0one",
    "run-one\n",
    "x" * 300,
    "RUN-ONE",
    "run_one",
]


@pytest.mark.parametrize("name", _NO_NAMES)
def test_what_is_no_id_of_a_run_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(InfrastructureError, match="no id of a run"):
        WorkFolder(tmp_path).run(name)


@pytest.mark.parametrize("name", [*_NO_NAMES, "g" * 64])
def test_what_is_no_key_of_a_template_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(InfrastructureError, match="no key of a template"):
        WorkFolder(tmp_path).template_cache(name)


@pytest.mark.parametrize("name", ["../c1", "/tmp/c1", "c/1", "", "c\0"])
def test_what_is_no_id_of_a_chunk_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(InfrastructureError, match="not the id of a chunk"):
        Spool(tmp_path, LeaseRef(name, 1, 1, "build-a", 0))
    assert not list(tmp_path.iterdir())


def test_a_leftover_run_that_is_a_link_takes_nothing_with_it(tmp_path: Path) -> None:
    # Given
    precious = tmp_path / "precious"
    (precious / "slots").mkdir(parents=True)
    folder = WorkFolder(tmp_path / "work")
    folder.runs.mkdir(parents=True)
    (folder.runs / "run-one").symlink_to(precious)
    # When
    for run in folder.leftovers():
        run.remove()
    # Then
    assert (precious / "slots").is_dir()
    assert not list(folder.runs.iterdir())


def test_runs_behind_a_link_are_not_removed(tmp_path: Path) -> None:
    # Given a test that has moved the folder of all runs away
    precious = tmp_path / "precious" / "run-one"
    precious.mkdir(parents=True)
    folder = WorkFolder(tmp_path / "work")
    folder.base.mkdir()
    folder.runs.symlink_to(tmp_path / "precious")
    # When
    folder.run("run-one").remove()
    # Then
    assert precious.is_dir()


def test_a_cache_of_templates_that_is_a_link_takes_nothing_with_it(tmp_path: Path) -> None:
    # Given
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    os.utime(precious, (1000, 1000))
    folder = WorkFolder(tmp_path / "work")
    (folder.base / "templates").mkdir(parents=True)
    (folder.base / "templates" / "x").symlink_to(precious)
    # When
    folder.prune_template_caches(oldest=2000)
    # Then
    assert (precious / "file").exists()


def test_layers_of_forks_go_with_the_run_whatever_the_kernel_left_in_them(
    folder: RunFolder,
) -> None:
    # Given
    fork = folder.fork_folder("0-0-1")
    own = folder.layer(fork) / "work" / "work"
    own.mkdir(parents=True)
    (own / "#1").touch()
    own.chmod(0)
    # When
    folder.remove()
    # Then
    assert not folder.path.exists()
