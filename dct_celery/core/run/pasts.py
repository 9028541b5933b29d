"""What has run in each test process of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dct_celery.core.model import Chunk
from dct_celery.core.run.events import ChunkEnd
from dct_celery.core.run.leases import LeaseRef


@dataclass(slots=True)
class Pasts:
    """Manifest indices, in the order in which the tests ran."""

    #: (worker, slot, process) -> what ran there so far.
    processes: dict[tuple[str, int, int], tuple[int, ...]] = field(default_factory=dict)

    def before(self, chunk: Chunk, lease: LeaseRef, end: ChunkEnd | None) -> tuple[int, ...] | None:
        """What had run in the chunk's process before it, its preamble included; None where that is
        not known. `end`: None if the lease was lost.
        """
        if chunk.preamble or chunk.fresh_process:
            return chunk.preamble
        if end is None or not end.process:
            return None
        return self.processes.get((lease.worker, lease.slot, end.process), ())

    def add(self, lease: LeaseRef, end: ChunkEnd, ran: Iterable[int]) -> None:
        """`ran`: all that the process has run up to this end."""
        if end.process:
            self.processes[lease.worker, lease.slot, end.process] = tuple(ran)
