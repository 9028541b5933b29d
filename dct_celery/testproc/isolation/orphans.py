"""What forks leave behind when they end: children of the loader, which asks them to end, and then
kills them.

Only ever a child of the loader itself, whose number nobody else can have got meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from dct_celery.testproc.clock import now
from dct_celery.testproc.isolation.lifetime import ForkMark, adopt_orphans, children

#: Seconds between SIGTERM and SIGKILL, and how often orphans are looked at meanwhile: each may
#: leave children of its own.
_GRACE, _PAUSE = 0.5, 0.02
#: Seconds for the last ones to die of SIGKILL.
_LAST = 1.0


class Orphans:
    """Processes that outlived their fork."""

    def __init__(self) -> None:
        adopt_orphans()
        #: What the project itself started when it was imported: its own until the loader ends.
        self._projects = set(children())
        #: Marks of forks that are gone, and when their patience ends.
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
        """`forks`: ids of the forks that live, which are nobody's orphans."""
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
        """The loader ends: no fork is wanted any more, nor what any of them left."""
        deadline = now() + _LAST
        while (found := self._strange(())) and now() < deadline:
            for pid in found:
                self._end(pid, kill=True)
            time.sleep(0.001)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
