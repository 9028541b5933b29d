"""What an export is made of.

The script without psql's own commands, the settings as SET takes them.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from psycopg import sql

from dct_celery.adapters.databases.postgres import dump
from dct_celery.adapters.databases.postgres.copy import Surroundings, _create, _value
from dct_celery.adapters.databases.postgres.dump import Header, find_pg_dump, plain, read, write
from dct_celery.core.databases.names import ownership_limit
from dct_celery.errors import DatabaseError

HEADER = Header(
    "UTF8",
    "C.UTF-8",
    "C",
    "c",
    "",
    "",
    Surroundings((("", "timezone=UTC"),), True, (("reader", "CONNECT", False),)),
    "state",
)


def test_commands_of_psql_around_the_script_are_left_out() -> None:
    # Given
    script = "--\n-- Dump\n--\n\n\\restrict abc\n\nSELECT 1;\n\n\\unrestrict abc\n\n"
    # Then
    assert plain(script) == "--\n-- Dump\n--\n\n\nSELECT 1;\n\n\n"


@pytest.mark.parametrize(
    "script",
    [
        "SELECT 'first';\n\\restrict abc\n",
        "-- Dump\nINSERT INTO t VALUES ('\n\\restrict abc\n\\unrestrict abc\n');\n",
        "",
    ],
)
def test_rows_that_look_like_commands_are_not_touched(script: str) -> None:
    assert plain(script) == script


def test_rows_that_look_like_the_last_command_are_not_touched() -> None:
    # Given
    rows = "INSERT INTO t VALUES ('\n\\unrestrict other\n');\n"
    # Then
    assert plain(f"\\restrict abc\n{rows}\\unrestrict abc\n") == rows


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    # Given
    file, script = tmp_path / "export.gz", "SELECT 'é\r\n\x01';\n"
    # When
    write(file, HEADER, script)
    # Then
    assert read(file) == (HEADER, script)
    assert list(tmp_path.iterdir()) == [file]


# Named: a gzip file holds the time, and two processes of pytest-xdist must collect the same tests.
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no gzip",
        gzip.compress(b"no json"),
        gzip.compress(b"{}\n"),
        gzip.compress(b"[]\n" * 99)[:20],
    ],
    ids=["empty", "no gzip", "no json", "no list", "cut"],
)
def test_a_damaged_file_is_named_with_the_fix(tmp_path: Path, data: bytes) -> None:
    # Given
    file = tmp_path / "export.gz"
    file.write_bytes(data)
    # Then
    with pytest.raises(DatabaseError, match=r"cannot be restored from.*delete it") as caught:
        read(file)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="cannot be written"):
        write(tmp_path / "absent" / "export.gz", HEADER, "")


def test_a_pg_dump_older_than_the_server_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    for name, version in (("old", "14.11 (Debian 14.11-1)"), ("new", "17beta2")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
        (folder / "pg_dump").chmod(0o755)
    monkeypatch.setattr(
        dump, "_folders", lambda _: [tmp_path / "absent", tmp_path / "old", tmp_path / "new"]
    )
    # Then
    assert find_pg_dump(14) == tmp_path / "old" / "pg_dump"
    assert find_pg_dump(15) == find_pg_dump(17) == tmp_path / "new" / "pg_dump"
    assert find_pg_dump(18) is None


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("", "LC_COLLATE 'C.UTF-8' LC_CTYPE 'C' CONNECTION"),
        ("c", "LOCALE_PROVIDER libc CONNECTION"),
        ("i", "LOCALE_PROVIDER icu ICU_LOCALE 'de' ICU_RULES '&a < b' CONNECTION"),
        ("b", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'de' CONNECTION"),
    ],
)
def test_a_restored_database_starts_as_the_exported_one_did(provider: str, words: str) -> None:
    # Given
    header = Header("UTF8", "C.UTF-8", "C", provider, "de", "&a < b", Surroundings(), "state")
    # Then
    statement = header.create("test_abc").as_string()
    assert statement.startswith(
        "CREATE DATABASE \"test_abc\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE"
    )
    assert f"{words} LIMIT {ownership_limit('test_abc')}" in statement


def test_a_clone_is_born_with_our_limit_and_the_strategy_that_was_chosen() -> None:
    # Then
    assert (
        _create("test_t", "test_c", "FILE_COPY").as_string()
        == 'CREATE DATABASE "test_c" TEMPLATE "test_t" STRATEGY = FILE_COPY CONNECTION LIMIT'
        f" {ownership_limit('test_c')}"
    )
    assert " STRATEGY" not in _create("test_t", "test_c", "").as_string()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("search_path", '"$user", public', "'$user', 'public'"),
        ("search_path", '"a ""b"", c"', "'a \"b\", c'"),
        ("datestyle", "SQL, DMY", "'SQL, DMY'"),
        ("app.x", "it's", "'it''s'"),
    ],
)
def test_a_setting_goes_back_as_it_was_given(name: str, value: str, expected: str) -> None:
    assert sql.Composed([_value(name, value)]).as_string() == expected
