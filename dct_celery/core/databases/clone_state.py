"""The state of a slot's clones, and whether a chunk may start from it.

A test process and its clones belong together: caches in the process hold primary keys of the
clones. So a chunk that cannot use the state gets new clones and a new fork, never one without the
other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dct_celery.core.model import Chunk, Need, Phase


@dataclass(frozen=True, slots=True)
class CloneState:
    """State of one slot's clones."""

    #: Aliases that are empty, cloned from a flushed template or flushed by tests.
    flushed: tuple[str, ...] = ()
    #: The last phase that could write without rolling back; None while the clones are as they were
    #: made.
    used_by: Phase | None = None

    def suits(self, chunk: Chunk) -> bool:
        """The chunk finds what it would find in a sequential run."""
        if chunk.fresh_process:
            return False
        if chunk.need is Need.ANY:
            return True
        if self.flushed != chunk.flushed:
            return False
        if chunk.phase is Phase.UNMANAGED:
            return True  # in a sequential run, too, it sees what earlier tests left behind
        if chunk.phase is Phase.TRANSACTIONAL and chunk.flushed:
            return self.used_by in (None, Phase.TRANSACTIONAL)
        return self.used_by is None

    def after(self, chunk: Chunk) -> CloneState:
        """The state that the chunk leaves behind."""
        if chunk.phase not in (Phase.TRANSACTIONAL, Phase.UNMANAGED):
            return self
        return replace(
            self, flushed=tuple(sorted({*self.flushed, *chunk.flushes})), used_by=chunk.phase
        )
