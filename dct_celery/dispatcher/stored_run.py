"""A run's keys in the store, as its dispatcher keeps them.

They are made when the run is opened, or taken over when it is adopted, and put back if the store
has lost them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import assert_never

from dct_celery import ports
from dct_celery.core.run.machine import RunMachine
from dct_celery.dispatcher.journal import Journal
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.errors import DctError, InfrastructureError, StoreUnavailable, Superseded
from dct_celery.ports import RUN_SECONDS
from dct_celery.ports.reporting import Warned
from dct_celery.protocol.leases import OutstandingChunk
from dct_celery.protocol.runs import ManifestSummary, RunSpec, RunState

#: Seconds that an announced run counts as alive without a new announcement.
HORIZON = 60.0
#: Seconds without an answer of the store after which the run is given up.
PATIENCE = 120.0
#: Seconds between two announcements.
_ANNOUNCE = 5.0
#: Seconds between two checks whether the store is still the same process.
_CHECK = 1.0
#: Seconds for which store and machine may differ about a chunk. Usually it is moments, but a
#: dispatcher that was stopped for long finds a claim, and then an end, that it has not read yet.
_DIFFERS = 8.0
#: Least checks at which they must have differed.
_CHECKS = 3
#: Most epochs of a run. No store is lost that often, and a forged number must not become ours.
MOST_EPOCHS = 1_000_000
#: Milliseconds of a lease whose length is not known.
_LEASE_MS = 15_000


class StoredRun:
    """The run's keys. `upload` puts the code back into a store that was wiped."""

    def __init__(
        self,
        services: DispatcherServices,
        spec: RunSpec,
        upload: Callable[[], object],
        *,
        epoch: int = 1,
        incarnation: str = "",
    ) -> None:
        self._services = services
        self.spec = spec
        self._upload = upload
        self._manifest: ManifestSummary | None = None
        self._head = b""
        self._manifest_due = self._head_due = False
        self._announced = float("-inf")
        self._lost_at = 0.0
        self._checked = 0.0
        self._incarnation = incarnation or services.ledger.incarnation()
        self.epoch = epoch
        #: The store has only part of the run: it went away while the run was put back.
        self._torn = False
        self._left = False
        #: State of the run in the store at the last check.
        self.state = RunState.OPEN
        #: Chunk -> since when (seconds of our clock), and at how many checks, the store and the
        #: machine have differed about it.
        self._differs: dict[str, tuple[float, int]] = {}

    def announce(self) -> None:
        services = self._services
        services.registry.announce(services.run, services.nonce, HORIZON, self.epoch)
        self._announced = self._services.clock()

    def stay(self) -> None:
        """Keeps the run alive before there is an event loop, so that it is not closed as abandoned.

        A store that is away is waited for, as later; in the end raises StoreUnavailable.
        """
        services = self._services
        try:
            self.announce()
            services.ledger.reap()
            services.supply_code()
        except StoreUnavailable as error:
            now = services.clock()
            if not self._lost_at:
                services.report(Warned(f"{error}; trying again for {PATIENCE:.0f} s"))
                self._lost_at = now
            elif now - self._lost_at > PATIENCE:
                raise
        else:
            self._lost_at = 0.0

    def give(self, *, manifest: ManifestSummary | None = None, head: bytes = b"") -> None:
        """Sets what the next `tend` writes: the manifest for workers, the head for `dct attach`."""
        if manifest is not None:
            self._manifest, self._manifest_due = manifest, True
        if head:
            self._head, self._head_due = head, True

    def tend(self) -> None:
        """To be called at each poll: writes what is due, and announces the run now and then."""
        services = self._services
        if self._manifest_due and self._manifest is not None:
            services.ledger.publish_manifest(self._manifest)
            self._manifest_due = False
        if self._head_due:
            services.ledger.publish_head(self._head)
            self._head_due = False
        services.supply_code()
        if services.clock() - self._announced >= _ANNOUNCE:
            self.announce()
            services.ledger.extend(RUN_SECONDS)

    def poll(self, now: float, machine: RunMachine, *, caught_up: bool = True) -> str:
        """Ends the leases that ran out, and says why the store may not hold all that was written,
        as the end of a sentence; else empty.

        `caught_up`: the machine has taken all that is in the stream.
        """
        self.state = self._services.ledger.poll()
        match self.state:
            case RunState.NONE:
                return "has lost the run"
            case RunState.CLOSED:
                return "has closed the run, since its dispatcher was silent for too long"
            case RunState.TAMPERED:
                return "has an order to stop the run that is not signed with the key"
            case RunState.OPEN | RunState.CANCELLED:
                pass
            case _:
                assert_never(self.state)
        if self._torn:
            return "went away while the run was put back"
        if now - self._checked >= _CHECK:
            self._checked = now
            return self._difference(now, machine, caught_up=caught_up)
        return ""

    def _difference(self, now: float, machine: RunMachine, *, caught_up: bool) -> str:
        known = {chunk.id: lease.fence if lease else 0 for chunk, lease, _ in machine.outstanding()}
        survey = self._services.ledger.survey(
            self.spec,
            None if self._manifest_due else self._manifest,
            list(known) if caught_up else (),
        )
        if survey.incarnation and self._incarnation and survey.incarnation != self._incarnation:
            return "was started again or replaced"
        if caught_up and (
            survey.epoch != self.epoch
            or not survey.intact
            or self._disagrees(known, survey.fences, now)
        ):
            return "has something else of the run than its dispatcher has put there"
        return ""

    def _disagrees(
        self, known: Mapping[str, int], stored: Mapping[str, int | None], now: float
    ) -> bool:
        """Whether the store and the machine have differed about a chunk for too long.

        Then an entry of the stream was lost, or someone with only the store's password has written
        there, and the chunk would never be run, or its end never be noticed.
        """
        # They may differ for a moment: the event of a claim, or of a lease's end, is on its way.
        differs = {name for name in known if stored[name] != known[name]}
        before = {name: self._differs.get(name, (now, 0)) for name in differs}
        self._differs = {name: (since, checks + 1) for name, (since, checks) in before.items()}
        return any(
            now - since > _DIFFERS and checks >= _CHECKS for since, checks in self._differs.values()
        )

    def reopen(self, machine: RunMachine, journal: Journal) -> None:
        """Puts the run back as the machine knows it, under the next epoch (I2).

        Raises StoreUnavailable, Superseded.
        """
        services, ledger = self._services, self._services.ledger
        found = ledger.epoch()
        epoch = max(self.epoch, min(found, MOST_EPOCHS)) + 1
        if epoch == found:
            # A forged epoch, under which the store would take the run for put back already.
            epoch += 1
        stopped = machine.stop.reason if machine.stop is not None else None
        stored = ports.RunContents(self.spec, self._manifest, stopped)
        incarnation = ledger.incarnation()
        if not ledger.reopen(
            services.owner, epoch, stored, _outstanding(machine), journal.positions
        ):
            raise Superseded(
                f"run {services.run} was adopted by another dispatcher (dct attach); this one"
                " leaves it alone"
            )
        self.epoch, self._incarnation, self._head_due, self._torn = (
            epoch,
            incarnation,
            bool(self._head),
            True,
        )
        self._differs = {}
        ledger.restore(entry for entry in journal.replay() if entry.epoch < epoch)
        self._send_code()
        self.announce()
        self._torn = False

    def _send_code(self) -> None:
        """Sends the code for workers that join later. It may fail: all others have it."""
        try:
            self._upload()
        except StoreUnavailable:
            raise
        except DctError as error:
            self._services.report(
                Warned(f"workers that join from now on may miss the code: {error}")
            )

    def leave(self) -> None:
        """Closes the run in the store. Called on every way out; a second call does nothing."""
        if self._left:
            return
        self._left = True
        services = self._services
        for step in (
            partial(services.registry.withdraw, services.run),
            partial(services.ledger.cancel, "the run is over"),
            services.ledger.close,
            services.queue.purge,
        ):
            try:
                step()
            except InfrastructureError as error:
                services.report(Warned(f"the end of the run could not be written: {error}"))
                return

    def hand_over(self) -> None:
        """Leaves the run to another dispatcher: `leave` will touch nothing of it."""
        self._left = True


def _outstanding(machine: RunMachine) -> list[OutstandingChunk]:
    return [
        OutstandingChunk(chunk, lease, (lease_ms or _LEASE_MS) if lease is not None else 0)
        for chunk, lease, lease_ms in machine.outstanding()
    ]
