"""Django's system checks, run beside the tests when the templates exist already.

They begin as soon as the slots have their clones, often before the run is ready, and no slot waits
for them. A run whose checks fail ends with exit code 1, as the sequential run does;
the dispatcher does not call a run passed before one worker has reported them. Building a template
includes them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dct_celery.errors import DctError, InfrastructureError
from dct_celery.worker.databases.clone_pool import ClonePool
from dct_celery.worker.databases.templates import Templates

#: Attempts while a database server keeps the checks from finishing.
_TRIES = 5


@dataclass(slots=True)
class SystemChecks:
    """`start` and `news` are called by the thread that owns the pool."""

    templates: Templates
    pool: ClonePool
    #: Called in a thread of the checks when there may be news.
    wake: Callable[[], None]
    passed: bool = False
    _thread: threading.Thread | None = None
    _error: DctError | None = None
    _reported: bool = False
    _tries: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Runs them on clones of their own. Raises DatabaseError when there are none; call it again
        later.
        """
        if self.passed or self._thread is not None:
            return
        names = self.pool.take_all()
        self._tries += 1
        self._thread = threading.Thread(
            target=self._run, args=(names,), name="dct-checks", daemon=True
        )
        self._thread.start()

    def _run(self, names: dict[str, str]) -> None:
        try:
            self.templates.run_checks(names, self._pass)
        except DctError as error:
            self._error = error
        finally:
            self.pool.give_back(names.values())
            self._ended.set()
            self.wake()

    def _pass(self) -> None:
        """At once: the run may be waiting for nothing else, while their process still ends."""
        self.passed = True
        self.wake()

    def news(self) -> DctError | bool:
        """Once it is known: True if they passed, or else what they found. False before that, after
        `reported`, and if a template was built here, which includes them.
        """
        if self._reported or self._thread is None:
            return False
        if self.passed:
            return True
        if not self._ended.is_set():
            return False
        if isinstance(self._error, InfrastructureError) and self._tries < _TRIES:
            self.pool.pause(self._error)
            self._thread, self._error = None, None
            self._ended.clear()
            return False
        return self._error or False

    def reported(self) -> None:
        """The dispatcher has the result."""
        self._reported = True

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(30.0)
