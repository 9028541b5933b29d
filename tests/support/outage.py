"""A database server of the tests that goes away and comes back.

Killed, started again with the same or other settings.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from dct_celery.adapters.embedded import child


class Outage:
    """Holds how a running server was started. A context manager that ends what it has started."""

    def __init__(self, pid: int, folder: Path) -> None:
        """`folder`: where the log of later lives goes."""
        self._argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        self._account = pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid) if os.geteuid() == 0 else None
        self._log = folder / "outage.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            child.stop(self._process, signal.SIGQUIT, 5)

    def end(self, number: signal.Signals) -> None:
        """Returns when the server and all its processes are gone.

        SIGQUIT is PostgreSQL's immediate mode.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        while _lives(self.pid):
            time.sleep(0.01)
        if self._process is not None:
            self._process.wait()

    def start(
        self,
        ready: Callable[[], object],
        *,
        swap: dict[str, str] | None = None,
        namespace: str = "",
    ) -> None:
        """Restarts the process with changes. Returns when `ready()` does not raise.

        `swap`: arguments of its command line -> their replacements; `namespace`: the network that
        it lives in from then on.
        """
        self._argv = [(swap or {}).get(word, word) for word in self._argv]
        if namespace:
            self._argv, self._account = self._into(namespace), None
        with self._log.open("ab") as log:
            environment = child.quiet_environment(os.environ)
            self._process = child.launch(
                self._argv, log=log, env=environment, cwd=Path("/"), account=self._account
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + 30
        while True:
            try:
                ready()
                return
            except Exception:
                assert time.monotonic() < deadline, self._log.read_text()
                assert self._process.poll() is None, self._log.read_text()
                time.sleep(0.05)

    def _into(self, namespace: str) -> list[str]:
        """Only root may enter it, so the account is changed behind the door."""
        change = (
            [f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}", "--clear-groups"]
            if self._account
            else []
        )
        ip, setpriv = (
            str(shutil.which(name, path=f"{os.defpath}:/usr/sbin:/sbin"))
            for name in ("ip", "setpriv")
        )
        return [ip, "netns", "exec", namespace, setpriv, *change, *self._argv]


def _lives(pid: int) -> bool:
    """A zombie is dead: its parent may never wait for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
