"""Follows a run: stream entries become events, the machine's effects become writes, until every entry has a disposition."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from dct_celery.core import events as ev
from dct_celery.core.databaseuse import DatabaseUse
from dct_celery.core.model import RunReport
from dct_celery.core.run import RunMachine
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.journal import Journal
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.errors import BrokerUnavailable, StoreUnavailable
from dct_celery.ports import StreamEntry

#: Milliseconds that one read of the stream waits.
_BLOCK = 100
#: Least seconds between two reads.
_PACE = 0.05
#: Seconds between looks at the registry, between announcements, and between partial reports.
_LOOK, _ANNOUNCE, _PARTIAL = 0.2, 5.0, 10.0
#: Seconds without an answer of the store after which the run is given up.
_PATIENCE = 120.0
#: Seconds to wait for the word of a worker that the system checks have passed: longer than a worker gives them.
_CHECKS = 700.0
#: Rounds (of at most _BLOCK each) to wait for the ends of chunks whose tests all have verdicts.
_LAST_WORDS = 10
#: Seconds to wait for other workers when all that are there refused.
_REFUSED = 2.0


class Follower:
    """One run's loop. `step` does one round; `follow` repeats it."""

    def __init__(self, services: DispatcherServices, machine: RunMachine, fleet: Fleet, partial: Callable[[], RunReport]) -> None:
        self._services = services
        self._machine = machine
        self._fleet = fleet
        self._partial = partial
        self._journal = Journal(services.state_folder / "runs", services.run)
        self._after = "0"
        self._due_effects: deque[ev.Effect] = deque()
        self._began = services.clock()
        self._read_at = 0.0
        self._first_claim = 0.0
        self._store_lost = 0.0
        self._refused_since = 0.0
        self._next = dict.fromkeys(("look", "announce"), 0.0)
        self._next["partial"] = self._began + _PARTIAL
        #: Some worker has seen the system checks pass.
        self._checked = False
        self.databases = DatabaseUse()
        #: wait (manifest to first claim) and run (first claim to last verdict), in seconds.
        self.seconds: dict[str, float] = {}

    def follow(self) -> None:
        """Returns when the machine has finished."""
        try:
            while not self._machine.finished:
                self.step()
            self._await_checks()
            self._hear_out()
        finally:
            self._journal.close()
            now = self._services.clock()
            first = self._first_claim or now
            self.seconds = {"wait": round(first - self._began, 3), "run": round(now - first, 3)}

    def _await_checks(self) -> None:
        """No run has passed whose system checks nobody has seen pass."""
        deadline = self._services.clock() + _CHECKS
        while not self._checked and self._machine.stop is None:
            if self._services.clock() > deadline or not self._fleet.fit:
                reason = "no worker has reported the system checks of the project"
                self._act(self._machine.handle(ev.Stopped(reason, 7, late=True)))
            self.step()

    def _hear_out(self) -> None:
        """The end of a chunk follows its last record within moments, and carries the seconds of its slot and classes."""
        rounds = _LAST_WORDS
        while self._machine.busy and self._machine.stop is None and rounds:
            self.step()
            rounds -= 1

    def step(self) -> None:
        """One round: read, fold, act, look around."""
        # One wake-up for what many slots sent: on the workers' own machine each costs the tests more than it is worth.
        self._services.sleep(max(self._read_at + _PACE - self._services.clock(), 0.0))
        now = self._read_at = self._services.clock()
        trouble: StoreUnavailable | None = None
        try:
            self._take(self._services.ledger.read(self._after, block_ms=_BLOCK))
            self._look(now)
        except StoreUnavailable as error:
            trouble = error
        try:
            # Also without a store: an interrupt and a time limit count at any time.
            self._watch_limits(now)
            self._act(self._machine.handle(ev.Ticked(now)))
        except StoreUnavailable as error:
            trouble = trouble or error
        if trouble:
            self._without_store(trouble, now)
        else:
            self._store_lost = 0.0
        console = self._services.console
        console.remaining(self._machine.remaining_seconds())
        console.tick()

    def _take(self, entries: list[StreamEntry]) -> None:
        if not entries:
            return
        positions = self._journal.append(entries)
        for entry in entries:
            self._after = entry.id
            if entry.kind == "host":
                self._host_spoke(entry)
            else:
                if entry.kind in ("completed", "released"):
                    self.databases.add(entry.data.get("databases"))
                self._act(self._machine.handle(_event(entry)))
        if not self._first_claim and self._machine.started:
            self._first_claim = self._services.clock()
        self._services.ledger.acknowledge(positions)

    def _act(self, effects: list[ev.Effect]) -> None:
        """Does what is due, in order. What the store cannot take now stays due: a lost offer is a test that never runs."""
        self._due_effects.extend(effects)
        while self._due_effects:
            self._do(self._due_effects[0])
            self._due_effects.popleft()

    def _do(self, effect: ev.Effect) -> None:
        services = self._services
        if isinstance(effect, (ev.Offer, ev.Republish)):
            if isinstance(effect, ev.Offer):
                services.ledger.offer(effect.chunk)
            self._publish(effect)
        elif isinstance(effect, ev.Judge):
            services.console.verdict(effect.verdict)
        elif isinstance(effect, ev.JudgeFixture):
            services.console.fixture(effect.fixture)
        elif isinstance(effect, ev.Cancel):
            services.ledger.cancel(effect.reason)
        else:
            services.console.warn(effect.text)

    def _publish(self, effect: ev.Offer | ev.Republish) -> None:
        chunk = effect.chunk
        try:
            self._services.queue.publish({"run": self._services.run, "chunk": chunk.id, "attempt": chunk.attempt})
        except BrokerUnavailable as error:
            # A lost message is published again when nobody claims its chunk.
            self._services.console.warn(str(error))

    # -- looking around ----------------------------------------------------------------

    def _due(self, what: str, now: float, pause: float) -> bool:
        if now < self._next[what]:
            return False
        self._next[what] = now + pause
        return True

    def _look(self, now: float) -> None:
        services = self._services
        if self._due("look", now, _LOOK):
            self._fleet.update(services.registry.workers(), now)
            names = [worker.name for worker in self._fleet.usable]
            self._act(self._machine.handle(ev.SlotsChanged(self._fleet.slots, self._fleet.ready_slots)))
            services.console.slots(self._machine.busy, self._fleet.slots, names)
            services.ledger.reap()
            self._look_for_cancel()
        if self._due("announce", now, _ANNOUNCE):
            services.registry.announce(services.run, 60.0)
            services.ledger.extend(6 * 3600)
        if self._due("partial", now, _PARTIAL):
            services.write_reports(self._partial())

    def _look_for_cancel(self) -> None:
        """Somebody else may have cancelled the run in the store; our own cancels come from a stop."""
        if self._machine.stop is None and self._services.ledger.state() == "cancelled":
            self._act(self._machine.handle(ev.Stopped("cancelled by dct cancel", 2, late=not self._checked)))

    def _host_spoke(self, entry: StreamEntry) -> None:
        word: dict[str, Any] = entry.data
        console = self._services.console
        if word["state"] == "ready":
            self._checked = self._checked or word["checked"]
            self.databases.prepared(entry.worker, word)
            how = f", templates {word['templates']}" if word.get("templates") else ""
            console.line(f"{entry.worker} is ready after {word['seconds']:.1f} s{how}")
        elif word["state"] == "checked":
            self._checked = True
        elif word["state"] == "databases":
            self.databases.add(word["use"])
        elif word["state"] == "refused":
            self._fleet.refusals[entry.worker] = word["message"]
            console.warn(f"{entry.worker} refuses the run: {word['message']}{_indented(word['detail'])}")
        else:
            reason = f"{word['message']} (said {entry.worker})"
            if word["detail"]:
                console.warn(f"{word['message']}{_indented(word['detail'])}")
            self._act(self._machine.handle(ev.Stopped(reason, 1, late=True)))

    def _watch_limits(self, now: float) -> None:
        settings = self._services.settings
        late = not self._checked  # all verdicts are there, but the run is not over
        if self._services.interrupted():
            self._act(self._machine.handle(ev.Stopped("interrupted", 2, late=late)))
        if not self._machine.stop and (trouble := self._services.fleet_trouble()):
            line, _, detail = trouble.partition("\n")
            self._services.console.warn(line + _indented(detail))
            self._act(self._machine.handle(ev.Stopped(line, 7, late=late)))
        if settings.timeout and now - self._began > settings.timeout:
            reason = f"the run took longer than {settings.timeout:g} s (--timeout)"
            self._act(self._machine.handle(ev.Stopped(reason, 7, late=late)))
        idle = now - self._fleet.last_usable
        if idle > settings.queue_timeout and not self._machine.busy:
            self._act(self._machine.handle(ev.Stopped(self._fleet.missing(settings.queue_timeout), 7)))
        self._refused_since = (self._refused_since or now) if self._fleet.all_refused else 0.0
        if self._refused_since and now - self._refused_since > _REFUSED:
            reasons = "; ".join(f"{name}: {why}" for name, why in sorted(self._fleet.refusals.items()))
            self._act(self._machine.handle(ev.Stopped(f"every worker of the pool refused the run: {reasons}", 7)))

    def _without_store(self, error: StoreUnavailable, now: float) -> None:
        if not self._store_lost:
            self._services.console.warn(f"{error}; trying again for {_PATIENCE:.0f} s")
            self._store_lost = now
        elif now - self._store_lost > _PATIENCE:
            # Its effects need the store that is not there.
            self._machine.handle(ev.Stopped(f"the store did not come back: {error}", 7))


def _event(entry: StreamEntry) -> ev.Event:
    lease = ev.Lease(entry.chunk, entry.attempt, entry.fence, entry.worker, entry.slot)
    data = entry.data
    if entry.kind == "claimed":
        return ev.Claimed(lease)
    if entry.kind == "records":
        return ev.Recorded(lease, entry.seq, data)
    if entry.kind == "completed":
        return ev.Completed(lease, data["busy_seconds"], data["class_seconds"], tuple(data["left"]), data["stopped"])
    if entry.kind == "released":
        return ev.Released(
            lease, data["why"], data["index"], data["cause"], data["detail"], data["busy_seconds"]
        )  # fmt: skip
    return ev.Expired(lease)


def _indented(detail: str) -> str:
    return "".join(f"\n    {line}" for line in detail.splitlines())
