"""Liveness locks of one run's owner on every database server it uses, renewed by a thread that does
nothing else.

Whatever else a worker is busy with (migrations may take minutes), its databases must not look
abandoned meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from dct_celery.errors import DctError
from dct_celery.ports import Clock, LivenessLock

log = logging.getLogger(__name__)
#: Seconds between two renewals; servers forget a silent owner after 60.
RENEW_SECONDS = 10.0


class LivenessLocks:
    """The locks by key (any text that names the server). Safe to use from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._locks: dict[str, LivenessLock] = {}
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="dct-liveness", daemon=True)

    def give(self, key: str, lock: LivenessLock) -> None:
        with self._mutex:
            self._locks[key] = lock

    def start(self) -> None:
        """From now on they are renewed. A second call does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def __contains__(self, key: str) -> bool:
        return key in self._locks

    def hold(self, key: str, templates: Iterable[str]) -> None:
        """Keeps these templates from being dropped. Raises DatabaseError."""
        with self._mutex:
            for template in templates:
                self._locks[key].hold(template)

    def _renew(self) -> None:
        while not self._clock.wait(self._stop, RENEW_SECONDS):
            with self._mutex:
                for key, lock in self._locks.items():
                    try:
                        lock.renew()
                    except DctError as error:
                        log.warning("%s: the liveness lock could not be renewed: %s", key, error)

    def close(self) -> None:
        """Releases all locks: from now on, what their owner left is garbage."""
        self._stop.set()
        with self._mutex:
            for lock in self._locks.values():
                lock.close()
            self._locks = {}
