"""How far a run is: a fold over verdicts and slot counts, with rate and time left. The clock is an argument."""

from __future__ import annotations

from collections import Counter, deque

from dct_celery.core.model import BAD_OUTCOMES, Outcome, Verdict

#: Seconds over which the rate is taken.
WINDOW = 10.0
#: The rate of a shorter span than this says nothing: the first chunk's tests arrive in one burst.
SHORTEST_SPAN = 1.0


class Progress:
    """Counts of a run under way. Every `now` is in monotonic seconds of one clock and never goes back."""

    def __init__(self, total: int, *, began: float | None = None) -> None:
        """`total` entries are to be judged; `began` is when the run started (default: when the first verdict comes)."""
        self.total = total
        self.busy = 0
        self.connected = 0
        #: Predicted seconds of work, on one slot, that are not yet judged; None where nobody predicted.
        self.remaining_seconds: float | None = None
        #: The verdict that came last, of a test that ran.
        self.last: Verdict | None = None
        self._began = began
        self._outcomes: dict[int, Outcome] = {}
        self._counts: Counter[Outcome] = Counter()
        self._recent: deque[float] = deque()

    def verdict(self, v: Verdict, now: float) -> None:
        """Take one verdict; a second one of the same entry replaces the first."""
        before = self._outcomes.get(v.entry.index)
        if before is not None:
            self._counts[before] -= 1
        self._outcomes[v.entry.index] = v.outcome
        self._counts[v.outcome] += 1
        self._began = now if self._began is None else self._began
        # What never ran took no time: a cancelled run would otherwise end at a fantastic rate.
        if v.outcome is not Outcome.NOT_RUN:
            self.last = v
            if before is None:
                self._recent.append(now)

    def slots(self, busy: int, connected: int) -> None:
        """Take the number of slots that run a chunk, and of those that could."""
        self.busy, self.connected = busy, connected

    @property
    def done(self) -> int:
        """Entries that have a verdict, not-run ones included."""
        return len(self._outcomes)

    @property
    def counts(self) -> dict[Outcome, int]:
        """Entries by outcome; every outcome is a key."""
        return {outcome: self._counts[outcome] for outcome in Outcome}

    @property
    def failed(self) -> int:
        """Entries that make the run red."""
        return sum(self._counts[outcome] for outcome in BAD_OUTCOMES)

    def rate(self, now: float) -> float:
        """Tests per second over the last `WINDOW` seconds."""
        while self._recent and self._recent[0] <= now - WINDOW:
            self._recent.popleft()
        if self._began is None:
            return 0.0
        return len(self._recent) / min(WINDOW, max(SHORTEST_SPAN, now - self._began))

    def eta(self, now: float) -> float | None:
        """Seconds until everything is judged, or None where there is nothing to tell it from."""
        left = self.total - self.done
        if left <= 0:
            return 0.0
        if self.remaining_seconds is not None and self.busy:
            return max(0.0, self.remaining_seconds) / self.busy
        rate = self.rate(now)
        return left / rate if rate else None
