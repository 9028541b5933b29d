"""Renews the lease of the chunk that a slot runs, in a thread of its own, and learns when the slot
should stop (I9).
"""

from __future__ import annotations

import logging
import threading
from typing import Self

from dct_celery.core.run.leases import LeaseRef
from dct_celery.ports import Clock, Ledger
from dct_celery.protocol.leases import WriteAnswer

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Context manager: renews at a third of the lease's length, but at least every second.

    The slot's thread only reads its flags. LOST: the slot kills its test process. CANCELLED: it
    gives the chunk back. GONE and MOVED (the store has lost the run, or has it in a later epoch)
    are for the slot's next write, see `ChunkRun._send`. A renewal that fails is tried again with
    the next one; if none succeeds, the dispatcher reaps the lease.
    """

    def __init__(self, ledger: Ledger, lease: LeaseRef, lease_ms: int, clock: Clock) -> None:
        self._ledger = ledger
        self._lease = lease
        self._lease_ms = lease_ms
        self._clock = clock
        self._end = threading.Event()
        self.lost = False
        self.cancelled = False
        self._thread = threading.Thread(target=self._run, name=f"lease-{lease.chunk}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the last renewal has ended."""
        self._end.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def note(self, answer: WriteAnswer) -> None:
        """What the store answered to any write under this lease."""
        self.lost = self.lost or answer is WriteAnswer.LOST
        self.cancelled = self.cancelled or answer is WriteAnswer.CANCELLED

    def _run(self) -> None:
        # A cancel should reach the slot within a second even when the lease is long.
        pause = min(self._lease_ms / 3000, 1.0)
        while not self._clock.wait(self._end, pause):
            self.renew()

    def renew(self) -> None:
        """Once. Never raises."""
        try:
            self.note(self._ledger.renew(self._lease, self._lease_ms))
        except Exception as error:
            # The store decides who holds the lease; while it is away, the lease cannot be lost.
            log.warning("lease of %s not renewed: %s", self._lease.chunk, error)
