"""What a folder of SQLite databases promises beyond the contract.

No copy loses rows, nothing is left unmarked.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dct_celery.adapters.databases.sqlite import files
from dct_celery.adapters.databases.sqlite import server as sqlite_module
from dct_celery.core.databases.marks import Found
from dct_celery.errors import CloneFailed, DatabaseError
from tests.contract.test_database_servers import (
    BUILDING,
    CLONE,
    TEMPLATE,
    SqliteScene,
    cloned,
    sealed,
)


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteScene:
    return SqliteScene(tmp_path / "databases")


def test_rows_that_are_still_beside_the_file_are_in_the_clone(sqlite: SqliteScene) -> None:
    # Given: a writer that died before its last checkpoint
    template = sqlite.name()
    sqlite.create(template)
    place = sqlite.server().place(template)
    writer = sqlite3.connect(place)
    writer.execute("PRAGMA journal_mode = wal")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("INSERT INTO book (title) VALUES ('four')")
    writer.commit()
    beside = {suffix: Path(place + suffix).read_bytes() for suffix in ("", "-wal")}
    writer.close()
    for suffix, data in beside.items():
        Path(place + suffix).write_bytes(data)
    assert Path(place + "-wal").stat().st_size
    # When
    sqlite.server().seal(template, replace(TEMPLATE, state="known"))
    # Then
    assert not Path(place + "-wal").exists()
    assert sqlite.rows(cloned(sqlite, template)) == [(1,), (2,), (3,), (4,)]


def test_a_clone_is_marked_before_there_is_a_file(
    sqlite: SqliteScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    template, name = sealed(sqlite), sqlite.name()
    seen: list[Found] = []

    def note_and_copy(source: Path, target: Path) -> None:
        seen.extend(found for found in sqlite.server().found() if found.name == name)
        files.copy_file(source, target)

    monkeypatch.setattr(sqlite_module, "copy_file", note_and_copy)
    # When
    sqlite.server().clone(template, name, CLONE)
    # Then
    assert [found.mark for found in seen] == [replace(CLONE, kind="building")]


def test_a_template_that_is_still_written_to_is_not_sealed(
    sqlite: SqliteScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr("dct_celery.adapters.databases.sqlite.state._SECONDS", 0.05)
    template = sqlite.name()
    sqlite.create(template)
    with sqlite.session(template) as writer:
        writer.execute("PRAGMA journal_mode = wal")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO book (title) VALUES ('four')")
        writer.execute("COMMIT")
        writer.execute("BEGIN")
        writer.execute("SELECT * FROM book").fetchone()
        with sqlite.session(template) as other, other:
            other.execute("INSERT INTO book (title) VALUES ('five')")
        # When
        with pytest.raises(DatabaseError, match="still open in another process"):
            sqlite.server().seal(template, TEMPLATE)
    # Then
    assert sqlite.server().find(template) is None


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_share_blocks_gets_plain_copies(
    sqlite: SqliteScene, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    # Given
    def refuse(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    # When / Then
    assert sqlite.rows(cloned(sqlite, sealed(sqlite))) == [(1,), (2,), (3,)]


def test_a_copy_that_is_too_short_is_no_clone(
    sqlite: SqliteScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    template, name = sealed(sqlite), sqlite.name()
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    # When
    with pytest.raises(CloneFailed, match="not as long as"):
        sqlite.server().clone(template, name, CLONE)
    # Then
    assert not sqlite.exists(name)


def test_a_full_disk_is_one_line_and_leaves_nothing(
    sqlite: SqliteScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    template, name = sealed(sqlite), sqlite.name()
    monkeypatch.setattr(os, "copy_file_range", full)
    # When
    with pytest.raises(CloneFailed, match="No space left on device"):
        sqlite.server().clone(template, name, CLONE)
    # Then
    assert not sqlite.exists(name)


def test_a_name_that_is_announced_is_not_taken_by_a_clone(sqlite: SqliteScene) -> None:
    # Given
    name = sqlite.name()
    sqlite.server().announce(name, BUILDING)
    # When
    with pytest.raises(CloneFailed, match="already exists"):
        sqlite.server().clone(sealed(sqlite), name, CLONE)
    # Then
    assert [found.mark for found in sqlite.server().found() if found.name == name] == [BUILDING]


def test_a_file_that_was_renamed_with_its_mark_is_never_dropped(sqlite: SqliteScene) -> None:
    # Given
    name, kept, server = cloned(sqlite, sealed(sqlite)), sqlite.name(), sqlite.server()
    for suffix in (".sqlite3", ".mark"):
        (sqlite.folder / f"{name}{suffix}").rename(sqlite.folder / f"{kept}{suffix}")
    # When
    with pytest.raises(DatabaseError, match="does not carry our mark"):
        server.drop(kept)
    # Then
    (found,) = [found for found in server.found() if found.name == kept]
    assert not found.ours
    assert f"carries the mark of {name}" in found.void
    assert sqlite.exists(kept)


def test_a_database_that_is_not_ours_cannot_be_announced(sqlite: SqliteScene) -> None:
    # Given
    name = sqlite.name()
    sqlite.foreign(name)
    # Then
    with pytest.raises(DatabaseError, match="does not carry our mark"):
        sqlite.server().announce(name, BUILDING)


def test_a_drop_takes_everything_that_lies_beside_the_file(sqlite: SqliteScene) -> None:
    # Given
    name = cloned(sqlite, sealed(sqlite))
    place = sqlite.server().place(name)
    for suffix in ("-wal", "-shm", "-journal"):
        Path(place + suffix).write_bytes(b"")
    # When
    sqlite.server().drop(name)
    # Then
    assert list(sqlite.folder.glob(f"{name}*")) == []


def test_a_folder_that_cannot_be_made_is_named_with_the_fix(tmp_path: Path) -> None:
    # Given
    (tmp_path / "file").write_text("")
    # Then
    with pytest.raises(DatabaseError, match="choose a local folder"):
        SqliteScene(tmp_path / "file" / "databases")


def test_a_liveness_lock_survives_a_folder_that_was_emptied(sqlite: SqliteScene) -> None:
    # Given
    sign = sqlite.server().liveness_lock("me")
    sign.hold("test_template")
    for path in sqlite.folder.iterdir():
        path.unlink()
    assert sqlite.server().alive(["me"]) == set()
    # When
    sign.renew()
    # Then
    assert sqlite.server().alive(["me"]) == {"me"}
    assert sqlite.server().in_use("test_template")
    sign.close()


def test_the_state_covers_rows_that_are_no_text_and_virtual_tables(sqlite: SqliteScene) -> None:
    # Given
    template = sqlite.name()
    sqlite.create(template)
    sqlite.run(
        template,
        "CREATE VIRTUAL TABLE words USING fts5 (word)",
        "INSERT INTO words VALUES ('a')",
        "INSERT INTO book (title) VALUES (CAST(x'ff00' AS TEXT))",
    )
    sqlite.server().seal(template, TEMPLATE)
    one, two = cloned(sqlite, template), cloned(sqlite, template)
    server = sqlite.server()
    assert server.state(one) == server.state(two)
    # When
    sqlite.run(one, "INSERT INTO words VALUES ('b')")
    # Then
    assert server.state(one) != server.state(two)
