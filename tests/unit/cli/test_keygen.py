"""Claims about `dct keygen`: keys that settings take, in files that only their owner can read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dct_celery.cli.keygen import command
from dct_celery.errors import UsageError
from dct_celery.settings import load
from tests.unit.cli import roots


def test_each_key_is_new_and_taken_by_the_settings(tmp_path: Path) -> None:
    # When
    first, second = (roots.run(command).stdout.strip() for _ in range(2))
    # Then
    assert first != second
    assert load({"signing_key": first}, env={}, cwd=tmp_path)[0].signing_keys == (first,)


def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    # When
    result = roots.run(command, "--out", str(tmp_path / "key"))
    # Then
    written = (tmp_path / "key").read_text().strip()
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert (
        load({}, env={"DCT_SIGNING_KEY_FILE": str(tmp_path / "key")}, cwd=tmp_path)[0].own_key
        == written
    )
    assert written not in result.output


@pytest.mark.parametrize("link", [False, True])
def test_a_key_that_is_there_is_never_overwritten(tmp_path: Path, link: bool) -> None:
    # Given
    (tmp_path / "old").write_text("in use")
    path = tmp_path / "old"
    if link:
        path = tmp_path / "link"
        path.symlink_to(tmp_path / "old")
    # When
    with pytest.raises(UsageError, match="exists"):
        command.main(["--out", str(path)], standalone_mode=False)
    # Then
    assert (tmp_path / "old").read_text() == "in use"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*: No such file or directory"):
        command.main(["--out", str(tmp_path / "nowhere" / "key")], standalone_mode=False)
