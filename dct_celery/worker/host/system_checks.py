"""Django's system checks where templates were there already, beside the tests: they are no reason
for a slot to wait.

A run whose checks fail ends with exit 1, as the sequential run does; its dispatcher does not call a
run passed before one worker has reported them. Building a template includes them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from dct_celery.errors import DctError, InfrastructureError
from dct_celery.worker.databases.clone_pool import ClonePool
from dct_celery.worker.databases.templates import Templates

#: Times that checks are begun which a database server keeps from an answer.
_TRIES = 5


@dataclass(slots=True)
class SystemChecks:
    """Started by the thread that owns the pool; `news` is asked by the same thread."""

    templates: Templates
    pool: ClonePool
    passed: bool = False
    _thread: threading.Thread | None = None
    _error: DctError | None = None
    _told: bool = False
    _tries: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """On clones of their own. Raises DatabaseError when those cannot be had; may be called
        again then.
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
            self.templates.run_checks(names)
            self.passed = True
        except DctError as error:
            self._error = error
        finally:
            self.pool.give_back(names.values())
            self._ended.set()

    def news(self) -> DctError | bool:
        """When they have ended, until it is `told`: True for passed, or what they found; False
        otherwise.
        """
        if self._told or not self._ended.is_set():
            return False
        if isinstance(self._error, InfrastructureError) and self._tries < _TRIES:
            self.pool.pause(self._error)
            self._thread, self._error = None, None
            self._ended.clear()
            return False
        return self._error or self.passed

    def told(self) -> None:
        """The dispatcher has been told."""
        self._told = True

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(30.0)
