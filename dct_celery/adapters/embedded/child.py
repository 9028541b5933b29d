"""Child processes that end with us and do not get the terminal's Ctrl-C.

Also the account that servers run under.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from dct_celery.errors import InfrastructureError

# The launcher drops its privileges itself, as the account need not be able to read the
# interpreter's own files. The kernel clears the death signal when ids change, so it is set
# afterwards; the ppid check closes the race with our own death.
_LAUNCHER = """
import ctypes, os, signal, sys
parent, death, uid, gid, *argv = sys.argv[1:]
libc = ctypes.CDLL(None)
if int(uid) >= 0:
    os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
if sys.platform == "linux":
    libc.prctl(1, int(death), 0, 0, 0)
if os.getppid() != int(parent):
    sys.exit("the parent is gone")
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execv(argv[0], argv)
"""


def launch(
    argv: Sequence[str],
    *,
    log: IO[bytes],
    env: Mapping[str, str],
    cwd: Path,
    account: pwd.struct_passwd | None = None,
    death: signal.Signals = signal.SIGTERM,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Starts `argv` (an absolute path first) in a session of its own; both outputs go to `log`.

    The child gets `death` when the *thread* that called this ends, so call it from a thread that
    lives as long as the child. `account` needs root.
    """
    uid, gid = (account.pw_uid, account.pw_gid) if account else (-1, -1)
    launcher = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        _LAUNCHER,
        *map(str, (os.getpid(), int(death), uid, gid)),
    ]
    return subprocess.Popen(
        [*launcher, *argv],
        stdin=stdin,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], signum: signal.Signals, grace: float) -> None:
    """Sends `signum`, waits `grace` seconds, then kills the child's whole session.

    Call it once, also for a dead child.
    """
    if process.poll() is None:
        process.send_signal(signum)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    kill_session(process)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kills the child's session; after a clean end, too: it may have left processes behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port(bind: str) -> int:
    """A TCP port that was free on `bind` (IPv4) a moment ago.

    Raises InfrastructureError for an address of another machine.
    """
    with socket.socket() as probe:
        try:
            probe.bind((bind, 0))
        except OSError as error:
            raise InfrastructureError(
                f"cannot bind a server to {bind} ({error}): name an address of this host"
            ) from error
        return int(probe.getsockname()[1])


def wait_ready(
    process: subprocess.Popen[bytes], is_ready: Callable[[], bool], timeout: float
) -> bool:
    """Polls until `is_ready()`; False when the child ended or `timeout` seconds have passed."""
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        if is_ready():
            return True
        time.sleep(0.01)
    return False


def server_account() -> pwd.struct_passwd | None:
    """The account for a server that refuses root: None for our own; as root, postgres or nobody.

    Raises InfrastructureError when neither exists, or when our own user has no name, which
    PostgreSQL requires.
    """
    if os.geteuid() != 0:
        with suppress(KeyError):
            pwd.getpwuid(os.geteuid())
            return None
        raise InfrastructureError(
            "PostgreSQL does not start for a user without a name: "
            f"add {os.geteuid()} to /etc/passwd"
        )
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise InfrastructureError(
        "PostgreSQL refuses to run as root and there is no user postgres or nobody: add one"
    )


def can_enter(folder: Path, account: pwd.struct_passwd | None) -> bool:
    """Whether `account` can reach `folder`, all its parents included."""
    if account is None:
        return os.access(folder, os.X_OK)
    ids = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    probe = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$0"', str(folder)], cwd="/", check=False, **ids
    )  # type: ignore[call-overload]
    return bool(probe.returncode == 0)


def quiet_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that a server may see: no PG* variable, no secret, a fixed locale."""
    return {"PATH": environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
