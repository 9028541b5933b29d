"""Every key of ours, with its lifetime.

A run's keys share a hash tag, so that its scripts may use them together.
"""

from __future__ import annotations

from dct_celery.ports import RUN_SECONDS
from dct_celery.protocol import PROTOCOL_VERSION

PREFIX = "dct:"
#: Lifetime of a run's keys in seconds; refreshed while its dispatcher lives.
RUN_TTL = RUN_SECONDS
#: Lifetime of a closed run's keys, in seconds: late slots must still learn that it is over.
CLOSED_TTL = 100
#: Lifetime of an abandoned run's keys, in seconds: no slot needs to learn of its end.
ABANDONED_TTL = 10
#: Lifetime of a blob that no snapshot refreshes, in seconds.
BLOB_TTL = 7 * 86400
#: Lifetime of timings that no run refreshes, in seconds.
TIMINGS_TTL = 90 * 86400


class RunKeys:
    """Keys of one run."""

    def __init__(self, run: str) -> None:
        base = f"{PREFIX}{{{run}}}:"
        self.run = f"{base}run"
        self.leases = f"{base}leases"
        self.events = f"{base}events"
        self.acks = f"{base}acks"
        #: What another dispatcher needs to take over the run: see dispatcher.run_snapshot.
        self.head = f"{base}head"
        self.chunk_prefix = f"{base}chunk:"

    def chunk(self, chunk: str) -> str:
        return f"{self.chunk_prefix}{chunk}"


def pool_runs(pool: str) -> tuple[str, str, str]:
    """Keys: alive until when; what each says of itself; for how long each asked."""
    return _beating(f"{PREFIX}{{{pool}}}:{PROTOCOL_VERSION}:runs")


def pool_workers(pool: str) -> tuple[str, str, str]:
    return _beating(f"{PREFIX}{{{pool}}}:{PROTOCOL_VERSION}:workers")


def pool_workers_before(pool: str) -> tuple[str, str, str]:
    """Where workers up to protocol 3 register: the same without a version."""
    return _beating(f"{PREFIX}{{{pool}}}:workers")


def _beating(base: str) -> tuple[str, str, str]:
    return base, f"{base}:info", f"{base}:horizons"


def pool_turn(pool: str) -> str:
    return f"{PREFIX}{{{pool}}}:turn"


def blob(digest: str, run: str = "") -> str:
    """`run`: the one whose own it is; empty for what all share, such as code."""
    return f"{PREFIX}{{{run}}}:file:{digest}" if run else f"{PREFIX}blob:{digest}"


def wanted(tree: str) -> str:
    """Digests of a tree's blobs that a worker found missing or damaged."""
    return f"{PREFIX}wanted:{tree}"


def timings(project: str) -> str:
    return f"{PREFIX}timings:{project}"
