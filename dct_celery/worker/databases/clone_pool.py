"""The clones of one run on one worker: made ahead while tests run, healed or dropped after use.

The pool belongs to the run's thread in the worker's main process; slots take spares through the
run's folder and never wait for a drop. A slot that finds no spare, and none being made, makes its
own.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dct_celery.errors import DatabaseError, DctError, InfrastructureError
from dct_celery.ports import Clock, DatabaseServer, DatabaseSpec
from dct_celery.worker.databases.clone_maker import FLUSHED, PRISTINE, CloneMaker
from dct_celery.worker.databases.templates import Templates
from dct_celery.worker.folders.clone_folder import CloneFolder
from dct_celery.worker.processes import proc

log = logging.getLogger(__name__)
#: Seconds without an attempt after a server has refused something.
PAUSE = 5.0
#: Seconds from a slot's death until its clones count as free: its test process ends when the loader
#: notices.
INHERIT_SECONDS = 2.0


@dataclass(slots=True)
class ClonePool:
    """`step` does one thing at a time, the most urgent first; False when there is nothing to do."""

    templates: Templates
    specs: Sequence[DatabaseSpec]
    servers: Mapping[str, DatabaseServer]
    folder: CloneFolder
    maker: CloneMaker
    clock: Clock
    #: Slots of this worker.
    slots: int
    #: Aliases that the selection flushes.
    flushes: frozenset[str]
    #: auto | always | never: whether clean clones outlive the run.
    keep: str = "auto"
    #: The templates may be of use to a later run.
    exports: bool = True
    #: Aliases whose flushed template is there.
    _flushed: set[str] = field(default_factory=set)
    #: Spares made so far, by (alias, kind).
    _made: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Clones kept for later runs, by (alias, kind).
    _kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    _exported: bool = False
    _quiet_until: float = 0.0
    #: Process that has clones -> monotonic seconds when it was first seen to be gone.
    _gone: dict[int, float] = field(default_factory=dict)
    #: Retired clones that could not be dropped; tried again at the end.
    _stubborn: set[str] = field(default_factory=set)

    def step(self) -> bool:
        try:
            # Only dropping helps against a full disk, so it goes on during a pause.
            if self.quiet:
                return self._clear_away()
            return self._fill() or self._clear_away() or self._flush() or self._export()
        except InfrastructureError as error:
            self.pause(error)
            return True

    @property
    def quiet(self) -> bool:
        """A server has just refused something."""
        return self.clock.monotonic() < self._quiet_until

    def pause(self, error: InfrastructureError) -> None:
        """Nothing is made for a while."""
        # A slot that needs a clone meets the same failure and reports it; here it only costs time.
        log.warning("run %s: no spare clones for %.0f s: %s", self.maker.naming.run, PAUSE, error)
        self._quiet_until = self.clock.monotonic() + PAUSE

    # -- what is wanted --------------------------------------------------------------------

    def _wanted(self, spec: DatabaseSpec, kind: str) -> int:
        """Spares that should exist now: one for each slot that has not had one yet, and one more
        for retries if tests can spoil clones.
        """
        flushed = spec.alias in self.flushes and not spec.late_flush
        if kind == FLUSHED:
            total = self.slots if flushed and spec.alias in self._flushed else 0
        else:
            # One for each slot; where other databases are flushed, slots change all clones at once
            # and need this one a second time.
            total = self.slots * (2 if self.flushes and not flushed else 1)
        reserve = 1 if total and self.flushes else 0
        taken = self._made[spec.alias, kind] - len(self.folder.spares(spec.alias, kind))
        return max(total - taken, reserve)

    def _kinds(self) -> Iterator[tuple[DatabaseSpec, str]]:
        for kind in (PRISTINE, FLUSHED):
            for spec in self.specs:
                yield spec, kind

    def _fill(self) -> bool:
        for spec, kind in self._kinds():
            if len(self.folder.spares(spec.alias, kind)) < self._wanted(spec, kind):
                self.add(spec, kind)
                return True
        return False

    def add(self, spec: DatabaseSpec, kind: str) -> None:
        """One more spare, in the cheapest way: adopted from an earlier run, healed, or cloned.
        Raises DatabaseError.
        """
        with self.folder.making(spec.alias, kind):
            self.folder.add_spare(self._new(spec, kind), spec.alias, kind)
        self._made[spec.alias, kind] += 1

    def _new(self, spec: DatabaseSpec, kind: str) -> str:
        return self.maker.adopt(spec, kind) or self.maker.make(spec, kind)

    def take_all(self) -> dict[str, str]:
        """A pristine clone of every database, which no slot can take: alias -> name.

        Raises DatabaseError; then the pool pauses.
        """
        taken: dict[str, str] = {}
        try:
            for spec in self.specs:
                taken[spec.alias] = self._new(spec, PRISTINE)
        except DatabaseError as error:
            self.give_back(taken.values())
            self.pause(error)
            raise
        return taken

    def give_back(self, names: Iterable[str]) -> None:
        """These clones are no longer used."""
        for name in names:
            self.folder.retire(name)

    @property
    def filled(self) -> bool:
        """Every slot finds a pristine spare, or has had one."""
        return all(
            len(self.folder.spares(spec.alias, PRISTINE)) >= self._wanted(spec, PRISTINE)
            for spec in self.specs
        )

    # -- in the background -----------------------------------------------------------------

    def _clear_away(self) -> bool:
        """Drops a retired clone, unless it is to be healed later."""
        self._inherit()
        retired = self.folder.retired()
        for name, alias in retired:
            spec = next(spec for spec in self.specs if spec.alias == alias)
            surplus = not self._keeps(spec) or len(retired) > 2 * self.slots * len(self.specs)
            # Taken out of the folder first: a slot may heal it otherwise.
            if surplus and name not in self._stubborn and self.folder.reclaim_one(name):
                self._drop_retired(name, alias)
                return True
        return False

    def _inherit(self) -> None:
        """Retires the clones of killed slots, after a delay: their test processes end later."""
        now = self.clock.monotonic()
        dead = {pid for pid in self.folder.holders() if proc.identity(pid) is None}
        self._gone = {pid: self._gone.get(pid, now) for pid in dead}
        for pid, since in self._gone.items():
            if now - since >= INHERIT_SECONDS:
                self.folder.retire_all_of(pid)

    def _drop_retired(self, name: str, alias: str) -> None:
        try:
            self.servers[alias].drop(name)
        except DatabaseError:
            self._stubborn.add(name)
            self.folder.retire(name)
            raise
        self.folder.forget(name)

    def _flush(self) -> bool:
        missing = self.flushes - self._flushed
        if not missing:
            return False
        self.templates.ensure_flushed(
            spec.alias for spec in self.specs if spec.alias in missing and not spec.late_flush
        )
        self._flushed |= missing
        return True

    def _export(self) -> bool:
        if self._exported or not self.exports:
            return False
        self._exported = True
        self.templates.export()
        return True

    # -- the end ---------------------------------------------------------------------------

    def close(self, deadline: float) -> None:
        """Ends the use of all clones: keeps those that are clean or healed where that pays, drops
        the others. It also pays where a worker ends and somebody waits for that: on a PostgreSQL
        with fsync, a DROP waits for a checkpoint, and that may take seconds.

        `deadline`: monotonic seconds; after it, everything is dropped. Never raises: the garbage
        collector removes what is left.
        """
        for spec in self.specs:
            for kind in (PRISTINE, FLUSHED):
                while name := self.folder.take_spare(spec.alias, kind):
                    self._lay_by(spec, name, kind)
        for name, alias in [*self.folder.retired(), *self.folder.in_use()]:
            for spec in self.specs:
                if spec.alias == alias:  # the note may be half written
                    with contextlib.suppress(DctError):
                        self._heal_for_later(spec, name, deadline)
            self.folder.forget_retired(name)
            self.folder.forget(name)

    def _heal_for_later(self, spec: DatabaseSpec, name: str, deadline: float) -> None:
        healed = None
        if self._keeps(spec) and self.clock.monotonic() < deadline:
            healed = self.maker.heal(spec, PRISTINE, name)
        if healed:
            self._lay_by(spec, healed, PRISTINE)
        else:
            self.servers[spec.alias].drop(name)

    def _lay_by(self, spec: DatabaseSpec, name: str, kind: str) -> None:
        server, template = self.servers[spec.alias], self.maker.template(spec, kind)
        with contextlib.suppress(DctError):
            if self._keeps(spec) and self._kept[spec.alias, kind] <= self.slots:
                self._kept[spec.alias, kind] += 1
                server.remark(name, self.maker.naming.mark("idle", server.now(), template=template))
            else:
                server.drop(name)
        self.folder.forget(name)

    def _keeps(self, spec: DatabaseSpec) -> bool:
        if self.keep == "auto":
            return self.servers[spec.alias].heals_cheaper(self.maker.template(spec, PRISTINE))
        return self.keep == "always"
