"""What attempts that have ended have left for the dispatcher, and which of it counts.

Coverage data, and files that tests wrote. Only an attempt that some verdict is from counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dct_celery.core.model import Artifact, Chunk, KeptFile, Verdict
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef


@dataclass(slots=True)
class LeftBehind:
    """All attempts, whether anything of theirs is wanted or not."""

    _attempts: list[tuple[LeaseRef, Chunk, ev.ChunkEnd | None]] = field(default_factory=list)

    def add(self, lease: LeaseRef, chunk: Chunk, end: ev.ChunkEnd | None) -> None:
        """`end`: None where the lease ran out."""
        self._attempts.append((lease, chunk, end))

    def coverage(self, verdicts: Mapping[int, Verdict]) -> tuple[list[Artifact], int]:
        """The data that count; and the number of tests whose verdict is from an attempt without."""
        found: dict[str, Artifact] = {}
        lost = 0
        for own, end in self._accepted(verdicts):
            if end is not None and end.coverage is not None:
                found[end.coverage.digest] = end.coverage
            else:
                lost += len(own)
        return list(found.values()), lost

    def files(self, verdicts: Mapping[int, Verdict]) -> tuple[list[KeptFile], int]:
        """The files that count, in the order of the suite; and how many slots have left out."""
        found: list[tuple[int, tuple[KeptFile, ...]]] = []
        left = 0
        for own, end in self._accepted(verdicts):
            if isinstance(end, ev.ChunkCompleted):
                found.append((own[-1], end.files))
                left += end.files_left
        return [file for _, files in sorted(found, key=_first) for file in files], left

    def _accepted(
        self, verdicts: Mapping[int, Verdict]
    ) -> Iterator[tuple[list[int], ev.ChunkEnd | None]]:
        """The tests whose verdicts are from it, and the end, of each attempt that has some."""
        for lease, chunk, end in self._attempts:
            own = [index for index in chunk.indices if _is_from(verdicts.get(index), lease)]
            if own:
                yield own, end


def _first(pair: tuple[int, object]) -> int:
    return pair[0]


def _is_from(verdict: Verdict | None, lease: LeaseRef) -> bool:
    return verdict is not None and (
        (verdict.worker, verdict.slot, verdict.attempt) == (lease.worker, lease.slot, lease.attempt)
    )
