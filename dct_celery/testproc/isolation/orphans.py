"""Ends the processes that forks leave behind: SIGTERM first, then SIGKILL.

Only children of the loader itself are ever signalled: no other process can have got their pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from dct_celery.testproc.clock import now
from dct_celery.testproc.isolation.lifetime import ForkMark, adopt_orphans, children

#: Seconds between SIGTERM and SIGKILL.
_GRACE = 0.5
#: Seconds between two checks meanwhile: each orphan may leave children of its own.
_PAUSE = 0.02
#: Seconds for the last ones to die after SIGKILL.
_LAST = 1.0


class Orphans:
    """Processes that outlived their fork."""

    def __init__(self) -> None:
        adopt_orphans()
        #: Processes that the project started when it was imported: they may run until the loader
        #: ends.
        self._projects = set(children())
        #: Marks of ended forks, and when their grace period ends.
        self._gone: list[tuple[ForkMark, float]] = []
        self._asked: set[int] = set()

    @property
    def pause(self) -> float:
        """Seconds until `step` is due."""
        return _PAUSE if self._gone else 5.0

    def fork_ended(self, mark: ForkMark, forks: tuple[int, ...]) -> None:
        self._gone.append((mark, now() + _GRACE))
        self.step(forks)

    def step(self, forks: tuple[int, ...]) -> None:
        """`forks`: pids of the living forks, which are no orphans."""
        waiting = []
        for mark, deadline in self._gone:
            found = [pid for pid in self._strange(forks) if mark.borne_by(pid)]
            for pid in found:
                self._end(pid, kill=now() > deadline)
            if found:
                waiting.append((mark, deadline))
        self._gone = waiting
        if not waiting:
            self._asked.clear()

    def _end(self, pid: int, *, kill: bool) -> None:
        if not kill and pid in self._asked:
            return
        self._asked.add(pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)

    def _strange(self, forks: tuple[int, ...]) -> list[int]:
        return [pid for pid in children() if pid not in forks and pid not in self._projects]

    def finish(self) -> None:
        """The loader ends: kills all forks and all that they left."""
        deadline = now() + _LAST
        while (found := self._strange(())) and now() < deadline:
            for pid in found:
                self._end(pid, kill=True)
            time.sleep(0.001)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
