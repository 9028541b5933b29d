"""The reference to a lease, used wherever a lease is mentioned."""

from __future__ import annotations

from dataclasses import dataclass

from dct_celery.core.codec import Count, Number


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """A lease on one attempt of a chunk: its holder, its fence, and the run's epoch."""

    chunk: str
    attempt: Number
    #: From 1 on, never given twice within a run; 0 where there is no lease (yet).
    fence: Count
    worker: str
    slot: Count
    epoch: Number = 1

    @property
    def key(self) -> str:
        """Key of the attempt in spools and acknowledgements: "chunk.attempt"."""
        return f"{self.chunk}.{self.attempt}"

    @property
    def place(self) -> str:
        """For people: "build-a@host/2"."""
        return f"{self.worker}/{self.slot}"
