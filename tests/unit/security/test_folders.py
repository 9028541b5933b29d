"""Claims about `security.folders`: private, and removed without following links out of them."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
from pathlib import Path

import pytest

from dct_celery.errors import ConfigError
from dct_celery.security.folders import private_folder, remove_below
from dct_celery.testproc.isolation.private_tree import _give_up_rights

_NEW_MOUNTS, _BIND, _PRIVATE = 0x00020000, 0x1000, 0x44000


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    base = tmp_path / "work"
    (base / "runs" / "one").mkdir(parents=True)
    (base / "runs" / "one" / "file").touch()
    return base


def test_a_folder_below_goes_with_all_that_is_in_it(base: Path) -> None:
    assert remove_below(base, base / "runs" / "one")
    assert os.listdir(base / "runs") == []


@pytest.mark.parametrize(
    "path", ["..", ".", "../precious", "runs/../../precious", "/", "runs/one\0", "not/there"]
)
def test_what_does_not_lie_below_stays(base: Path, path: str) -> None:
    assert not remove_below(base, base / path)
    assert (base.parent / "precious" / "file").exists()
    assert (base / "runs" / "one" / "file").exists()


def test_an_absolute_path_elsewhere_stays(base: Path) -> None:
    assert not remove_below(base, base / str(base.parent / "precious"))
    assert (base.parent / "precious" / "file").exists()


def test_nothing_is_removed_behind_a_link(base: Path) -> None:
    # Given a link in the place of a folder on the way, and one that is to be removed itself
    (base / "trees").symlink_to(base.parent)
    (base / "runs" / "two").symlink_to(base.parent / "precious")
    (base / "runs" / "one" / "in").symlink_to(base.parent / "precious")
    # When / Then
    assert not remove_below(base, base / "trees" / "precious")
    assert remove_below(base, base / "runs" / "two")
    assert remove_below(base, base / "runs" / "one")
    assert os.listdir(base / "runs") == []
    assert (base.parent / "precious" / "file").exists()


def test_a_folder_as_deep_as_a_test_can_make_it_is_removed(base: Path) -> None:
    # Given a path that is too long to be given
    (base / "runs" / "one" / "link").symlink_to(base.parent / "precious")
    folder = os.open(base / "runs" / "one", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d" * 200, dir_fd=folder)
        inside = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inside
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.symlink(base.parent / "precious", "link", dir_fd=folder)
    os.close(folder)
    try:
        # When / Then
        assert remove_below(base, base / "runs" / "one")
        assert os.listdir(base / "runs") == []
        assert (base.parent / "precious" / "file").exists()
    finally:  # pytest could not
        subprocess.run(["rm", "-rf", base], check=True)


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300])
def test_a_folder_that_its_owner_may_not_change_is_removed(base: Path, mode: int) -> None:
    # Given what a plain user's tests leave
    inner = base / "runs" / "one" / "closed" / "inside"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    (inner.parent / "link").symlink_to(base.parent / "precious")
    for folder in (inner, inner.parent, base / "runs" / "one"):
        folder.chmod(mode)
    # When
    child = os.fork()
    if child == 0:
        _give_up_rights(ctypes.CDLL(None))  # root may change everything
        os._exit(not remove_below(base, base / "runs" / "one"))
    # Then
    assert os.waitpid(child, 0)[1] == 0
    assert os.listdir(base / "runs") == []
    assert (base.parent / "precious" / "file").exists()


def test_what_a_test_has_mounted_keeps_its_files(base: Path) -> None:
    # Given
    mounted = base / "runs" / "one" / "in" / "mounted"
    mounted.mkdir(parents=True)
    for inside in (base.parent / "precious", base.parent / "precious" / "folder"):
        inside.mkdir(exist_ok=True)
        (inside / "file").touch()
        inside.chmod(0o755)
    # When
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None)
        words = map(os.fsencode, (base.parent / "precious", mounted))
        alone = libc.unshare(_NEW_MOUNTS) == 0 and libc.mount(None, b"/", None, _PRIVATE, None) == 0
        if not alone or libc.mount(*words, None, _BIND, None) != 0:
            os._exit(2)
        os._exit(remove_below(base, base / "runs" / "one"))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # Then
    if code == 2:
        pytest.skip("this user may not mount")
    assert code == 0
    for inside in (base.parent / "precious", base.parent / "precious" / "folder"):
        assert (inside / "file").exists()
        assert stat.S_IMODE(inside.stat().st_mode) == 0o755


def test_what_cannot_be_removed_does_not_save_the_rest(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    (base / "runs" / "one" / "stuck").touch()
    unlink = os.unlink

    def refuse(path: str, **more: int) -> None:
        if path == "stuck":
            raise PermissionError(1, "Operation not permitted", path)
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", refuse)
    # When / Then
    assert not remove_below(base, base / "runs" / "one")
    assert os.listdir(base / "runs" / "one") == ["stuck"]


def test_a_folder_that_is_open_to_others_is_closed(tmp_path: Path) -> None:
    # Given
    folder = tmp_path / "work"
    folder.mkdir()
    folder.chmod(0o755)
    # When / Then
    assert private_folder(folder, "DCT_WORK_DIR")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not private_folder(folder, "DCT_WORK_DIR")


def test_a_new_folder_is_closed_from_the_beginning(tmp_path: Path) -> None:
    assert not private_folder(tmp_path / "a" / "work", "DCT_WORK_DIR")
    assert stat.S_IMODE((tmp_path / "a" / "work").stat().st_mode) == 0o700


def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    # When / Then
    with pytest.raises(ConfigError, match="belongs to user"):
        private_folder(tmp_path, "DCT_WORK_DIR")


def test_a_file_in_its_place_is_one_line(tmp_path: Path) -> None:
    # Given
    (tmp_path / "work").touch()
    # When / Then
    with pytest.raises(ConfigError, match="cannot be used"):
        private_folder(tmp_path / "work", "DCT_WORK_DIR")
