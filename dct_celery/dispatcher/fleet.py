"""The pool as one run sees it: which workers can take part, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass, field

from dct_celery.ports import WorkerInfo
from dct_celery.protocol.workers import RefusedReport, RunStage

_SAME_BROKER = (
    "set DCT_BROKER (or DCT_STORE, where it is the broker, too) to the same server and database on"
    " both sides"
)


def elsewhere(theirs: str, ours: str) -> bool:
    """Whether both brokers are known and differ. See `WorkerInfo.broker`."""
    ids = [one.partition("|")[0] for one in (theirs, ours)]
    return all(ids) and ids[0] != ids[1]


def _shown(broker: str) -> str:
    return broker.partition("|")[2] or "?"


@dataclass(slots=True)
class Fleet:
    """Kept by the event loop, which calls `update` after each poll of the registry."""

    run: str
    pool: str
    version: str
    protocol: int
    key_id: str
    workers: list[WorkerInfo] = field(default_factory=list)
    #: worker -> why it refused this run.
    refusals: dict[str, RefusedReport] = field(default_factory=dict)
    #: Monotonic seconds when a usable worker was last connected.
    last_usable: float = 0.0
    #: Monotonic seconds when a fit worker was last connected.
    last_fit: float = 0.0
    #: Where this side publishes, as in `WorkerInfo.broker`.
    broker: str = ""
    #: Monotonic seconds since when all workers have listened to another broker; 0 while one listens
    #: to ours.
    elsewhere_since: float = 0.0

    def update(self, workers: list[WorkerInfo], now: float) -> None:
        self.workers = workers
        self.elsewhere_since = (self.elsewhere_since or now) if self.all_elsewhere else 0.0
        if self.usable:
            self.last_usable = now
        if self.fit:
            self.last_fit = now

    def heard_again(self, now: float) -> None:
        """The store is back: workers could not be seen meanwhile, and may register only later."""
        self.last_usable = self.last_fit = now

    @property
    def usable(self) -> list[WorkerInfo]:
        return [worker for worker in self.workers if not self.obstacle(worker)]

    @property
    def fit(self) -> list[WorkerInfo]:
        """Those that can take part, including one that backs off: it comes back."""
        return [worker for worker in self.workers if not self._unfit(worker)]

    @property
    def slots(self) -> int:
        return sum(worker.slots for worker in self.usable)

    @property
    def ready_slots(self) -> int:
        return sum(
            worker.slots for worker in self.usable if worker.runs.get(self.run) is RunStage.READY
        )

    @property
    def ready_workers(self) -> int:
        return sum(worker.runs.get(self.run) is RunStage.READY for worker in self.usable)

    @property
    def all_refused(self) -> bool:
        """There are workers, and each of them has refused the run."""
        return bool(self.workers) and all(worker.name in self.refusals for worker in self.workers)

    @property
    def permanent(self) -> bool:
        """There are workers, and none takes part, for reasons that no retry changes: keys,
        versions, environments, a suite that cannot be built.
        """
        return bool(self.workers) and all(
            self._misfit(worker)
            or (worker.name in self.refusals and self.refusals[worker.name].permanent)
            for worker in self.workers
        )

    @property
    def all_elsewhere(self) -> bool:
        """There are workers, and none of them would get a message from this side."""
        return bool(self.workers) and all(
            elsewhere(worker.broker, self.broker) for worker in self.workers
        )

    def obstacle(self, worker: WorkerInfo) -> str:
        """Why the worker cannot take part now; empty when it can."""
        return self._unfit(worker) or worker.backing_off

    def _unfit(self, worker: WorkerInfo) -> str:
        refusal = self.refusals.get(worker.name)
        return self._misfit(worker) or (refusal.message if refusal else "")

    def _misfit(self, worker: WorkerInfo) -> str:
        """Why the worker could take part in no run of this side; empty where it could."""
        if worker.version and (worker.protocol != self.protocol or worker.version != self.version):
            return (
                f"runs dct_celery {worker.version}, this is {self.version}: install the same"
                " version on both sides"
            )
        if worker.foreign or self.key_id not in worker.keys:
            return (
                "has another signing key, or none: set the same DCT_SIGNING_KEY_FILE on both sides"
            )
        if elsewhere(worker.broker, self.broker):
            theirs, ours = _shown(worker.broker), _shown(self.broker)
            return (
                f"listens to another broker, {theirs}, this side publishes to {ours}:"
                f" {_SAME_BROKER}"
            )
        return ""

    def reasons(self) -> str:
        """Why no worker takes part: each reason once, with the workers that it holds for."""
        workers: dict[str, list[str]] = {}
        for worker in self.workers:
            workers.setdefault(self.obstacle(worker) or "is not ready", []).append(worker.name)
        return "; ".join(f"{_names(names)}: {reason}" for reason, names in workers.items())

    def awaited(self) -> str:
        """What the run waits for while no slot runs anything of it."""
        if not self.workers:
            return f"waiting for a worker of pool {self.pool!r}; none is connected"
        if not self.usable:
            return f"waiting for a worker that can take part; {self.reasons()}"
        preparing = [w.name for w in self.usable if w.runs.get(self.run) is RunStage.PREPARING]
        if self.ready_workers:
            return "waiting for a slot to take the first chunk"
        if preparing:
            return f"waiting for {_names(preparing)} to prepare code and databases"
        return f"waiting for {_names([worker.name for worker in self.usable])} to begin"

    def misled(self) -> str:
        """The message for a run whose chunks no worker is offered: all use another broker."""
        names = sorted({_shown(worker.broker) for worker in self.workers})
        return (
            f"the workers of pool {self.pool!r} listen to another broker, {', '.join(names)}, "
            f"this side publishes to {_shown(self.broker)}: {_SAME_BROKER}"
        )

    def missing(self, seconds: float) -> str:
        """The message for a run that no worker takes."""
        who = self.reasons() if self.workers else "no workers are connected"
        return (
            f"no worker of pool {self.pool!r} took the run within {seconds:g} s (--queue-timeout):"
            f" {who}; start one with the same store and pool: celery -A dct_celery worker"
        )


def _names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
