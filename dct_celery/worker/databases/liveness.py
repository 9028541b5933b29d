"""Signs of life of one run's owner on every database server it uses, renewed by a thread that does
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

log = logging.getLogger("dct_celery.worker")
#: Seconds between two renewals; servers forget a silent owner after 60.
RENEW_SECONDS = 10.0


class LivenessLocks:
    """The signs by key (any text that names the server). All methods may be called from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._liveness: dict[str, LivenessLock] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="dct-signs", daemon=True)

    def give(self, key: str, sign: LivenessLock) -> None:
        with self._lock:
            self._liveness[key] = sign

    def start(self) -> None:
        """From now on they are renewed. A second call does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def __contains__(self, key: str) -> bool:
        return key in self._liveness

    def hold(self, key: str, templates: Iterable[str]) -> None:
        """Raises DatabaseError."""
        with self._lock:
            for template in templates:
                self._liveness[key].hold(template)

    def _renew(self) -> None:
        while not self._clock.wait(self._stop, RENEW_SECONDS):
            with self._lock:
                for key, sign in self._liveness.items():
                    try:
                        sign.renew()
                    except DctError as error:
                        log.warning("%s: the sign of life could not be renewed: %s", key, error)

    def close(self) -> None:
        """Ends all signs: from now on what their owner left is garbage."""
        self._stop.set()
        with self._lock:
            for sign in self._liveness.values():
                sign.close()
            self._liveness = {}
