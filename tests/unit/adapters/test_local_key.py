"""Claims about the key of local runs."""

from __future__ import annotations

from pathlib import Path

from dct_celery.adapters.local_fleet import kept_local_key, local_key


def test_local_runs_of_a_user_have_one_key(tmp_path: Path) -> None:
    # When
    first, second = local_key(tmp_path / "state"), local_key(tmp_path / "state")
    # Then
    assert first == second == kept_local_key(tmp_path / "state")
    assert len(first) == 32


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    # When
    local_key(tmp_path)
    # Then
    assert [path.name for path in tmp_path.iterdir()] == ["local.key"]
    assert (tmp_path / "local.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_could_read_is_not_used(tmp_path: Path) -> None:
    # Given
    kept = local_key(tmp_path)
    (tmp_path / "local.key").chmod(0o644)
    # When / Then
    assert kept_local_key(tmp_path) == ""
    assert local_key(tmp_path) not in ("", kept)


def test_where_it_cannot_be_kept_each_run_has_its_own(tmp_path: Path) -> None:
    # Given
    (tmp_path / "state").write_text("no folder")
    # When / Then
    assert local_key(tmp_path / "state") != local_key(tmp_path / "state")
