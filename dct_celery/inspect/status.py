"""A run as the store has it, for `dct status` and `dct workers`.

It is the dispatcher's own summary, with the entries of the run's event stream since then folded in
by the same code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dct_celery import __version__
from dct_celery.core.model import BAD_OUTCOMES
from dct_celery.core.run.view import BusySlot, Problem, RunView
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.errors import Untrusted, UsageError
from dct_celery.ports import Ledger, WorkerInfo
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.protocol import summary as summaries
from dct_celery.protocol.door import Rejects
from dct_celery.protocol.runs import RunState
from dct_celery.protocol.workers import RunStage
from dct_celery.security.signing import Keyring

#: Entries of one read of the stream.
_PAGE = 1000


class RunWatch:
    """One run, to be polled once or repeatedly: each poll reads only what is new.

    A newer summary of the dispatcher replaces what was folded here, since it has what only a
    dispatcher decides (a test given up, a death blamed). Without a summary, as for a run that has
    just begun or was put back, the stream is folded from its start.
    """

    def __init__(self, run: str, ledger: Ledger) -> None:
        self.run = run
        self._ledger = ledger
        self._view = RunView()
        self._rejects = Rejects()
        self._epoch = 0
        self._after = "0"
        #: Predicted seconds to the end, from the last summary.
        self._left: float | None = None
        self._faults: list[str] = []

    def look(self, *, workers: Sequence[WorkerInfo], active: Sequence[str], pool: str) -> RunStatus:
        """`workers`, `active`: the pool's workers and active runs. Raises UsageError for a run that
        the store does not know.
        """
        ledger = self._ledger
        state = ledger.state()
        if state is RunState.NONE:
            raise UsageError(f"the store knows no run {self.run!r}; {some_runs(active, pool)}")
        self._faults = []
        self._take_summary()
        view = self._view
        view.total = self._total()
        self._read_on()
        if self._rejects.total:
            self._faults.append(
                f"{self._rejects.total:,} entries of its event stream are not signed with our key"
            )
        reached = ledger.acknowledged(list(view.positions))
        return RunStatus(
            run=self.run,
            state=state,
            announced=self.run in active,
            total=view.total,
            silence=round(ledger.silence(), 1),
            outcomes={outcome.value: count for outcome, count in view.counts.items()},
            fixtures=len(view.fixtures),
            streamed=view.settled + sum(view.positions.values()),
            acknowledged=view.settled + sum(map(min, reached, view.positions.values())),
            began=view.first,
            last=view.last,
            slots=tuple(
                sorted(view.busy.values(), key=lambda one: (one.lease.worker, one.lease.slot))
            ),
            workers={info.name: info.runs[self.run] for info in workers if self.run in info.runs},
            refusals=dict(view.refusals),
            queued=len(view.queued),
            waiting=view.waiting if state is RunState.OPEN else "",
            left=self._left,
            problems=tuple(view.problems),
            note="; ".join(self._faults),
        )

    def _take_summary(self) -> None:
        epoch = self._ledger.epoch()
        try:
            summary = self._ledger.summary()
        except Untrusted as error:
            self._faults.append(f"the summary of the run {error}")
            summary = None
        if (
            summary is not None
            and summary.epoch == epoch
            and _later(summary.after, self._after, epoch != self._epoch)
        ):
            try:
                self._view, self._after, self._left = summary.view(), summary.after, summary.left
            except Untrusted as error:
                self._faults.append(f"the summary of the run {error}")
        elif epoch != self._epoch:
            self._view, self._after, self._left = RunView(), "0", None
        self._epoch = epoch

    def _read_on(self) -> None:
        """Reads to the end of the stream, which may grow meanwhile."""
        while (page := self._ledger.read(self._after, block_ms=0, count=_PAGE)).last:
            for one in page.rejected:
                self._rejects.note("stream", one.error)
            for entry in page.entries:
                summaries.take(self._view, entry)
            self._after = page.last
            if len(page.entries) + len(page.rejected) < _PAGE:
                return

    def _total(self) -> int | None:
        try:
            manifest = self._ledger.manifest()
        except Untrusted as error:
            self._faults.append(f"the manifest of the run {error}")
            return None
        return None if manifest is None else manifest.count


def _later(id_: str, other: str, anyhow: bool) -> bool:
    """The first id is at or after the other one in the stream, or `anyhow`."""
    first, second = ([int(part) for part in one.split("-")] for one in (id_, other))
    return anyhow or first >= second


# -- a run -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One run as it stands. Times are Unix seconds on the store's clock."""

    run: str
    state: RunState
    #: Its dispatcher has announced it to the pool within the last minute.
    announced: bool
    #: Tests of the manifest; None before it is there, or when it could not be believed (see
    #: `note`).
    total: int | None
    #: Seconds since its dispatcher was last known to be alive.
    silence: float
    #: Outcome -> tests, without outcomes that no test has.
    outcomes: dict[str, int]
    #: Class and module fixtures that failed.
    fixtures: int
    #: Records that slots have sent.
    streamed: int
    #: Those of them that the dispatcher has journalled.
    acknowledged: int
    began: float | None
    last: float | None
    slots: tuple[BusySlot, ...]
    workers: dict[str, RunStage]
    refusals: dict[str, str]
    #: Chunks that wait for a slot.
    queued: int = 0
    #: What the run waits for while no slot runs anything, from its dispatcher's last summary.
    waiting: str = ""
    #: Predicted seconds to its end, from its dispatcher's last summary.
    left: float | None = None
    #: The first tests and fixtures that failed.
    problems: tuple[Problem, ...] = ()
    note: str = ""

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    @property
    def bad(self) -> int:
        """Failed tests and fixtures so far."""
        return self.fixtures + sum(self.outcomes.get(outcome, 0) for outcome in BAD_OUTCOMES)


def some_runs(active: Sequence[str], pool: str) -> str:
    """Which runs are active: the end of a message about a run that is not."""
    if not active:
        return f"no run is active in pool {pool!r}"
    return f"active in pool {pool!r}: {', '.join(active)}"


# -- the pool --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker of the pool; `obstacle` says why it takes no runs of this side, or is empty."""

    info: WorkerInfo
    obstacle: str


def pool_workers(
    workers: Iterable[WorkerInfo], runs: Iterable[RunStatus], keyring: Keyring, broker: str = ""
) -> list[WorkerStatus]:
    """Sorted by name. `runs`: the active ones, from which busy slots are counted.

    `broker`: where this side publishes, as in `WorkerInfo.broker`.
    """
    busy = Counter(slot.lease.worker for run in runs for slot in run.slots)
    seen = [replace(info, busy=max(info.busy, busy[info.name])) for info in workers]
    return [
        WorkerStatus(info, _obstacle(info, keyring, broker))
        for info in sorted(seen, key=lambda info: info.name)
    ]


def _obstacle(info: WorkerInfo, keyring: Keyring, broker: str) -> str:
    if info.version == __version__ and info.protocol != PROTOCOL_VERSION:
        return (
            f"speaks protocol {info.protocol}, this side {PROTOCOL_VERSION}: install the same"
            " version on both sides"
        )
    fleet = Fleet("", "", __version__, PROTOCOL_VERSION, keyring.ids[0], broker=broker)
    return fleet.obstacle(info)


def cancel(run: str, ledger: Ledger, reason: str, *, active: Sequence[str], pool: str) -> None:
    """Cancels the run; slots see it at their next renewal, the dispatcher at its next poll.

    Raises UsageError when there is nothing to cancel, Untrusted for a run of another key.
    """
    state = ledger.state()
    if state is RunState.NONE:
        raise UsageError(f"the store knows no run {run!r}; {some_runs(active, pool)}")
    if state not in (RunState.OPEN, RunState.TAMPERED):
        how = "is cancelled already" if state is RunState.CANCELLED else "has ended"
        others = some_runs([name for name in active if name != run], pool)
        raise UsageError(f"run {run!r} {how}; {others}")
    try:
        ledger.spec()
    except Untrusted as error:
        raise Untrusted(
            f"run {run!r} cannot be cancelled from here: its specification {error}"
        ) from None
    ledger.cancel(reason)
