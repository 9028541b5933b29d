"""One chunk under one lease: from the claim to completed, released or lost (I2, I3, I7)."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dct_celery.core.databases.server_fault import LAST_DOUBT, suspicion
from dct_celery.core.model import (
    BAD_OUTCOMES,
    Artifact,
    Chunk,
    Failure,
    FixtureRef,
    Outcome,
)
from dct_celery.core.run.events import ChunkCompleted, ChunkEnd, ChunkReleased, ReleaseReason
from dct_celery.core.run.leaks import CAME_AND_WENT, LeakKind, LeakRecord
from dct_celery.core.run.leases import LeaseRef
from dct_celery.errors import (
    DatabaseError,
    DctError,
    ProcessDied,
    ProtocolError,
    ServerFault,
    StoreUnavailable,
)
from dct_celery.protocol.leases import WriteAnswer
from dct_celery.protocol.workers import MAX_DETAIL
from dct_celery.wire import messages
from dct_celery.worker.health.circuit_breaker import FailureLog
from dct_celery.worker.processes.leaks import leaks_of, wears_out
from dct_celery.worker.processes.post_mortem import MemoryTrouble, last_state
from dct_celery.worker.processes.test_process import TestProcess
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.slot.artifacts import Artifacts
from dct_celery.worker.slot.deadlines import ChunkDeadlines, Overdue
from dct_celery.worker.slot.lease_keeper import LeaseKeeper
from dct_celery.worker.slot.spool import Spool

if TYPE_CHECKING:
    from dct_celery.worker.slot.slot_run import SlotRun

log = logging.getLogger(__name__)
#: A batch is sent when its oldest record is as old as the chunk allows, or when it has this many
#: characters.
BATCH_SIZE = 128 * 1024
#: Seconds between two checks for what may end a chunk from outside.
POLL_SECONDS = 0.05
#: Seconds to try the last write of a chunk while the store is away; then the lease decides.
STORE_PATIENCE = 120.0
#: Seconds that a process which timed out gets to end by itself.
TERM_SECONDS = 3.0
#: Outcomes that a failing database server can cause.
_DOUBTFUL = frozenset({Outcome.FAILED, Outcome.ERROR, Outcome.XFAILED})
#: Seconds of silence after which the database servers are probed regularly.
_SILENCE = 3.0


class ChunkRun:
    """Drives the slot's test process through one chunk and streams its records."""

    def __init__(
        self,
        slot_run: SlotRun,
        lease: LeaseRef,
        chunk: Chunk,
        services: WorkerServices,
        lease_ms: int,
    ) -> None:
        self._slot_run = slot_run
        self._chunk = chunk
        self._lease = lease
        self._services = services
        self._clock = services.clock
        self._lease_ms = lease_ms
        self._spool = Spool(slot_run.folder.spool, lease)
        self._artifacts = Artifacts(
            slot_run.folder.artifacts(slot_run.slot), partial(services.send_files, slot_run.run)
        )
        self._batch: list[str] = []
        self._batch_size = 0
        self._batch_since = 0.0
        self._checked_at = 0.0
        self._start = self._clock.monotonic()
        self._deadlines = ChunkDeadlines(
            chunk, slot_run.test_timeout, slot_run.fixture_timeout, self._start
        )
        self._memory = MemoryTrouble()
        #: The test process has received the chunk: from now on, its death is blamed on the chunk,
        #: not on the machine.
        self._begun = False
        #: What comes before the chunk and is still running; its results do not count.
        self._preamble = chunk.preamble
        #: A test or fixture of it has failed.
        self._bad = False
        #: Process id of the test process that has the chunk.
        self._pid = 0

    def execute(self) -> str:
        """completed | released | lost"""
        with LeaseKeeper(self._slot_run.ledger, self._lease, self._lease_ms, self._clock) as keeper:
            self._keeper = keeper
            try:
                return self._follow(self._begin())
            except ProcessDied as died:
                return self._died(died)
            except ProtocolError as error:
                cause = f"garbage in the runner's channel: {error}"
                return self._release(
                    ReleaseReason.CRASH,
                    cause,
                    index=self._deadlines.index,
                    fixture=self._deadlines.fixture,
                )
            except DctError as error:
                if isinstance(error, DatabaseError) and not self._begun:
                    return self._unready(error)
                return self._release(ReleaseReason.DATABASE, str(error), error.detail)
            except Exception as error:
                # Otherwise the lease would have to run out, and the loss would not be counted.
                log.exception("chunk %s", self._chunk.id)
                return self._release(
                    ReleaseReason.LOADER,
                    f"internal error of the worker: {type(error).__name__}: {error}",
                )
            finally:
                self._spool.close()
                self._artifacts.close()

    def _begin(self) -> TestProcess:
        """The test process, with the chunk sent to it. One that ended between two chunks is
        replaced, as nothing is lost with it.
        """
        process = self._order()
        if process is None:
            log.warning("a test process ended between two chunks")
            self._slot_run.retire(kill=True)
            process = self._order()
        if process is None:
            raise ProcessDied("it ended before its first test")
        self._begun = True
        self._deadlines.begin(self._clock.monotonic())
        return process

    def _order(self) -> TestProcess | None:
        """Sends the chunk to the test process. None if the process has ended."""
        process = self._slot_run.process_for(
            self._chunk,
            lambda: self._keeper.lost or self._keeper.cancelled,
            # The fence of its first lease, as no lease of the run has it again.
            number=self._lease.fence,
        )
        self._note_sessions()
        try:
            self._send_tests(process)
        except ProcessDied:
            return None
        self._pid = process.pid
        return process

    def _note_sessions(self) -> None:
        """Records what went wrong where test processes of this slot have torn down the session."""
        for record in self._slot_run.torn_down():
            self._note(record.encode(), self._clock.monotonic())

    def _send_tests(self, process: TestProcess) -> None:
        """The tests of the chunk, or before them those of its preamble. Raises ProcessDied."""
        if self._preamble:
            process.send(messages.RunChunk(self._chunk.id, list(self._preamble)))
            return
        chunk = self._chunk
        if self._slot_run.measured:
            self._coverage_file().unlink(missing_ok=True)  # of an attempt that was lost
        process.send(
            messages.RunChunk(
                chunk.id,
                list(chunk.indices),
                str(self._artifact_folder()) if self._slot_run.artifacts else "",
                list(chunk.stops),
                str(self._coverage_file()) if self._slot_run.measured else "",
                str(self._artifact_folder()) if self._slot_run.artifact_paths else "",
                self._slot_run.metrics,
            )
        )

    def _artifact_folder(self) -> Path:
        """Where the test process puts files for the dispatcher."""
        folder = self._slot_run.folder.artifacts(self._slot_run.slot)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def _coverage_file(self) -> Path:
        return self._artifact_folder() / "coverage"

    def _coverage(self) -> Artifact | None:
        """What the test process has written of it, at the end of the chunk or before it died."""
        return self._artifacts.keep(self._coverage_file()) if self._slot_run.measured else None

    def _follow(self, process: TestProcess) -> str:
        while True:
            message = process.receive(timeout=POLL_SECONDS)
            now = self._clock.monotonic()
            if message is not None:
                self._deadlines.hear(message)
            if isinstance(message, (messages.TestFinished, messages.FixtureFinished)):
                if not self._preamble:
                    self._record(message, process.raw, now)
            elif isinstance(message, messages.ChunkFinished):
                if not self._preamble:
                    return self._complete(process, message)
                if message.left or message.stopped:
                    return self._release(ReleaseReason.PREAMBLE, "a class before it did not end")
                self._preamble = ()
                self._send_tests(process)
            elif isinstance(message, messages.Fatal):
                return self._release(ReleaseReason.CRASH, message.message, message.detail)
            # The run may be over with its last record, and errors of the session's tear-down would
            # come too late: the last one of the chunk goes with the end of it, if that comes.
            last = self._is_last(message)
            if (
                self._batch
                and not last
                and (
                    now - self._batch_since >= self._chunk.batch_seconds
                    or self._batch_size >= BATCH_SIZE
                )
            ):
                self._send()
            # By the clock, not only in silence: fast tests may not be silent until the chunk ends.
            if now - self._checked_at >= POLL_SECONDS:
                self._checked_at = now
                if outcome := self._interrupted(process, now, silent=message is None):
                    return outcome

    def _record(
        self, message: messages.TestFinished | messages.FixtureFinished, raw: bytes, now: float
    ) -> None:
        if message.outcome in _DOUBTFUL:
            self._doubt(message)
        self._bad |= message.outcome in BAD_OUTCOMES
        if isinstance(message, messages.TestFinished) and message.artifacts:
            self._artifacts.note(message.artifacts)
        self._note(raw, now)

    def _note(self, raw: bytes, now: float) -> None:
        text = raw.decode("ascii")
        self._spool.add(text)
        if not self._batch:
            self._batch_since = now
        self._batch.append(text)
        self._batch_size += len(text)

    def _doubt(self, message: messages.TestFinished | messages.FixtureFinished) -> None:
        """Raises DatabaseError if the server may be to blame: then the test runs again (I7)."""
        if outage := self._slot_run.probe.outage():
            raise DatabaseError(f"{message.kind} while {outage}", fault=ServerFault.AWAY)
        fault = suspicion(message.failures, message.reason)
        if fault is None:
            return
        if (
            fault is ServerFault.DISK
            or self._chunk.attempt < LAST_DOUBT
            or self._slot_run.probe.short()
        ):
            self._slot_run.back_off(f"the database server {fault}")
            raise DatabaseError(f"{message.kind} while the database server {fault}", fault=fault)

    def _send(self) -> bool:
        """Appends the batch to the stream. While the store is away, the batch is kept."""
        if not self._batch:
            return True
        self._spool.flush()
        try:
            self._artifacts.send()
            records = f"[{','.join(self._batch)}]"
            answer = self._slot_run.ledger.append(
                self._lease, self._spool.seq, records, self._lease_ms
            )
            if answer in (WriteAnswer.MOVED, WriteAnswer.GONE):
                raise StoreUnavailable(self._follow_epoch(answer))
        except StoreUnavailable as error:
            log.warning("records of %s wait: %s", self._chunk.id, error)
            self._batch_since = self._clock.monotonic() + 0.5
            return False
        self._keeper.note(answer)
        self._batch, self._batch_size = [], 0
        return answer is not WriteAnswer.LOST

    def _follow_epoch(self, answer: WriteAnswer) -> str:
        """The store has lost the run, and may have it back: old records are sent again before new
        ones. Returns why nothing was written.
        """
        if answer is WriteAnswer.GONE:
            return "the store has lost the run"
        epoch = self._slot_run.ledger.epoch()
        (journalled,) = self._slot_run.ledger.acknowledged([self._spool.key])
        # Only once everything is known: the old batch in the new epoch would skip earlier records.
        self._lease = replace(self._lease, epoch=epoch)
        self._artifacts.send_again()
        self._batch = self._spool.after(journalled)
        self._batch_size = sum(map(len, self._batch))
        return f"the run is now in epoch {epoch}; {len(self._batch)} records are sent again"

    # -- ends ------------------------------------------------------------------------

    def _interrupted(self, process: TestProcess, now: float, *, silent: bool) -> str:
        """Whatever ends a chunk from outside the test process; checked every POLL_SECONDS."""
        if self._keeper.lost:
            self._slot_run.retire(kill=True)
            return "lost"
        if self._keeper.cancelled:
            return self._release(ReleaseReason.CANCELLED, "the run was stopped")
        if self._drained(now):
            return self._release(ReleaseReason.DRAIN, "the worker stops")
        if self._deadlines.spent > _SILENCE:
            self._slot_run.probe.watch()
        overdue = self._deadlines.check(now, silent=silent)
        return self._timed_out(process, overdue) if overdue else ""

    def _drained(self, now: float) -> bool:
        try:
            since = os.stat(self._services.folder.draining).st_mtime
        except OSError:
            return False
        return self._clock.wall() - since > self._services.settings.drain_seconds

    def _timed_out(self, process: TestProcess, overdue: Overdue) -> str:
        """Stacks first, while the process can still write them; then the verdict; then the end."""
        message, stacks = overdue.message, process.stacks(ask=True)
        if self._preamble:
            return self._release(ReleaseReason.PREAMBLE, f"a class before it {message}", stacks)
        record = self._verdict(process, overdue, f"{message}\n\n{stacks}".rstrip())
        if record is not None:
            self._record(record, record.encode(), self._clock.monotonic())
            self._send()
        process.terminate(TERM_SECONDS)
        if record is not None:
            return self._release(
                ReleaseReason.TIMEOUT, message, index=overdue.index, fixture=overdue.fixture
            )
        return self._release(ReleaseReason.SILENCE, f"a silent test process {message}", stacks)

    def _verdict(
        self, process: TestProcess, overdue: Overdue, text: str
    ) -> messages.TestFinished | messages.FixtureFinished | None:
        """The record that the process itself cannot send; None if no test and no fixture is to
        blame.
        """
        failures = (Failure("error", "dct.TimedOut", overdue.message, text),)
        output = process.last_output()
        if overdue.fixture:
            return messages.FixtureFinished(overdue.fixture, Outcome.ERROR, failures, output=output)
        if overdue.index is None:
            return None
        return messages.TestFinished(
            overdue.index, Outcome.ERROR, self._deadlines.spent, failures, output=output
        )

    def _died(self, died: ProcessDied) -> str:
        process = self._slot_run.process
        detail = last_state(process) if process is not None else ""
        if process is None or not self._begun or process.orphaned():
            return self._release(ReleaseReason.LOADER, str(died), detail)
        cause = self._memory.explain(str(died), process.peak())
        if self._preamble:
            return self._release(ReleaseReason.PREAMBLE, f"{cause} in a class before it", detail)
        return self._release(
            ReleaseReason.CRASH,
            cause,
            detail,
            index=self._deadlines.index,
            fixture=self._deadlines.fixture,
        )

    def _complete(self, process: TestProcess, message: messages.ChunkFinished) -> str:
        changed = self._slot_run.used(self._chunk)
        leaks = leaks_of(process, self._chunk.indices, message, self._clock)
        if self._slot_run.alone:
            leaks = [one for one in leaks if CAME_AND_WENT not in one.what]
        if not self._chunk.preamble:
            leaks += [LeakRecord(LeakKind.SCHEMA, alias) for alias in changed]
        # A chunk that was stopped may leave transactions and patches open.
        spoilt = self._bad and self._chunk.ends_if_bad
        ended_early = message.left or message.stopped
        self._slot_run.session = message.session
        worn = ended_early or spoilt or self._chunk.preamble or wears_out(process, leaks)
        if worn or (message.session and self._is_run_ending()):
            self._slot_run.retire()
            self._note_sessions()
        files = self._artifacts.note(message.files)
        return self._end(
            ChunkCompleted(
                busy_seconds=round(self._clock.monotonic() - self._start, 6),
                class_seconds=message.class_seconds,
                left=message.left,
                stopped=message.stopped,
                leaks=tuple(leaks),
                databases=self._slot_run.database_use(),
                process=self._pid,
                session=self._slot_run.session,
                fixtures=message.fixtures,
                coverage=self._coverage(),
                files=files,
                files_left=message.files_left + len(message.files) - len(files),
            )
        )

    def _is_last(self, message: messages.Message | None) -> bool:
        last = self._chunk.indices[-1]
        return isinstance(message, messages.TestFinished) and message.index == last

    def _is_run_ending(self) -> bool:
        """The slot will hardly get another chunk of this run."""
        try:
            return self._slot_run.ledger.ending()
        except StoreUnavailable:
            return False

    def _unready(self, error: DctError) -> str:
        """Nothing of the chunk has run: other slots may take it while this one backs off."""
        self._slot_run.back_off(str(error))
        return self._release(ReleaseReason.UNREADY, str(error), error.detail)

    def _release(
        self,
        why: ReleaseReason,
        cause: str,
        detail: str = "",
        index: int | None = None,
        fixture: FixtureRef | None = None,
    ) -> str:
        self._slot_run.retire(kill=True)
        if why is ReleaseReason.LOADER:
            FailureLog(self._services.folder.failures, self._clock).note(cause)
        return self._end(
            ChunkReleased(
                why,
                cause,
                detail[-MAX_DETAIL:],
                index,
                fixture,
                busy_seconds=round(self._clock.monotonic() - self._start, 6),
                databases=self._slot_run.database_use(),
                process=self._pid,
                coverage=self._coverage(),
            )
        )

    def _end(self, end: ChunkEnd) -> str:
        """Records first, then the end: if this slot dies in between, its lease is reaped and the
        records stand.
        """
        completed = isinstance(end, ChunkCompleted)
        if completed:
            FailureLog(self._services.folder.failures, self._clock).clear()
        deadline = self._clock.monotonic() + STORE_PATIENCE
        while (
            self._clock.monotonic() < deadline
            and not self._keeper.lost
            and not self._slot_run.folder.over
        ):
            try:
                if self._send():
                    self._artifacts.send()
                    answer = self._slot_run.ledger.end(self._lease, self._spool.seq, end)
                    if answer in (WriteAnswer.MOVED, WriteAnswer.GONE):
                        raise StoreUnavailable(self._follow_epoch(answer))
                    self._spool.end(end, self._lease.epoch)
                    self._slot_run.folder.note_done(self._lease.key, self._lease.epoch)
                    return "completed" if completed else "released"
            except StoreUnavailable as error:
                log.warning("end of %s waits: %s", self._chunk.id, error)
            self._clock.sleep(0.5)
        return "lost"
