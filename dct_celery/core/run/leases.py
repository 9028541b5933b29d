"""Who holds what: the one name for a lease, wherever it is spoken of."""

from __future__ import annotations

from dataclasses import dataclass

from dct_celery.core.codec import Count, Number


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """A lease on one attempt of a chunk: who has it, with which fence, in which epoch of the run."""

    chunk: str
    attempt: Number
    #: From 1 on and never given twice within a run; 0 where there is no lease (yet).
    fence: Count
    worker: str
    slot: Count
    epoch: Number = 1

    @property
    def key(self) -> str:
        """Of the attempt, as spools and acknowledgements call it: "chunk.attempt"."""
        return f"{self.chunk}.{self.attempt}"

    @property
    def place(self) -> str:
        """For people: "build-a@host/2"."""
        return f"{self.worker}/{self.slot}"
