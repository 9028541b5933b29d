"""Keeps the lease of the chunk that a slot runs, in a thread of its own, and tells the slot when it should stop."""

from __future__ import annotations

import logging
import threading
from typing import Self

from dct_celery.ports import Held, Ledger

log = logging.getLogger("dct_celery.worker")


class LeaseKeeper:
    """Context manager: renews at a third of the lease's length. Only reads its flags are shared with the slot's thread."""

    def __init__(self, ledger: Ledger, held: Held, lease_ms: int) -> None:
        self._ledger = ledger
        self._held = held
        self._lease_ms = lease_ms
        self._end = threading.Event()
        self.lost = False
        self.cancelled = False
        self._thread = threading.Thread(target=self._run, name=f"lease-{held.chunk}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def note(self, answer: str) -> None:
        """What the store answered to any write under this lease."""
        self.lost = self.lost or answer == "lost"
        self.cancelled = self.cancelled or answer == "cancelled"

    def _run(self) -> None:
        # A cancel should reach the slot within a second even when the lease is long.
        pause = min(self._lease_ms / 3000, 1.0)
        while not self._end.wait(pause):
            try:
                self.note(self._ledger.renew(self._held, self._lease_ms))
            except Exception as error:
                # The store decides who holds the lease; while it is away, nobody can lose it.
                log.warning("lease of %s not renewed: %s", self._held.chunk, error)
