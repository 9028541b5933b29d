"""How slots and pool get clones: adopted, healed or copied; each is noted before it is made.

A name is used for one attempt only: what a failed attempt left is never met again (I6).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from dct_celery.core import retry
from dct_celery.core.retry import Retry
from dct_celery.errors import CloneFailed, DatabaseError, ServerFault
from dct_celery.ports import Clock, DatabaseServer, DatabaseSpec
from dct_celery.worker.databases.naming import CloneNaming
from dct_celery.worker.databases.templates import Templates
from dct_celery.worker.folders.clone_folder import CloneFolder

log = logging.getLogger(__name__)
#: Kinds of clones, as in the names of templates.
PRISTINE, FLUSHED = "t", "f"


@dataclass(slots=True)
class CloneMaker:
    """One for each slot, and one for the pool of spares. Not thread-safe.

    Every clone that a method returns is noted in the run's folder as this process's own.
    """

    templates: Templates
    servers: Mapping[str, DatabaseServer]
    folder: CloneFolder
    naming: CloneNaming
    clock: Clock
    #: Who makes the clones, as a part of their names: the number of a slot, or "p" for the pool.
    place: int | str
    #: How a copy is tried again.
    again: Retry

    def template(self, spec: DatabaseSpec, kind: str) -> str:
        return self.templates.name(spec.alias, flushed=kind == FLUSHED)

    def make(self, spec: DatabaseSpec, kind: str) -> str:
        """A clone of the template: a retired one, healed, where that is cheaper than a copy. Raises
        CloneFailed.
        """
        return self._healed(spec, kind) or self._copied(spec, kind)

    def adopt(self, spec: DatabaseSpec, kind: str) -> str | None:
        """A clone that an earlier run left idle, or None. Raises DatabaseError."""
        server, template = self.servers[spec.alias], self.template(spec, kind)
        fresh = self._fresh_name(spec)
        try:
            adopted = server.adopt(
                template, fresh, self.naming.mark("clone", server.now(), template=template)
            )
        except DatabaseError:
            self.folder.forget(fresh)
            raise
        if adopted != fresh:
            self.folder.forget(fresh)
            if adopted is not None:  # a server that cannot rename
                self.folder.note(adopted, spec.alias)
        return adopted

    def heal(self, spec: DatabaseSpec, kind: str, used: str) -> str | None:
        """Makes a used clone equal to the template again; returns its new name, or None if that
        failed and the clone is gone.
        """
        server, template = self.servers[spec.alias], self.template(spec, kind)
        fresh = self._fresh_name(spec)
        healed = None
        try:
            healed = server.heal(
                used, template, fresh, self.naming.mark("clone", server.now(), template=template)
            )
        except DatabaseError as error:
            log.warning("run %s: %s is not healed: %s", self.naming.run, used, error)
        for name in {used, fresh} - {healed}:
            self.folder.forget(name)
        return healed

    def _healed(self, spec: DatabaseSpec, kind: str) -> str | None:
        """A retired clone, healed, or None. Of several takers, one gets it."""
        if not self.servers[spec.alias].heals_cheaper(self.template(spec, kind)):
            return None
        used = self.folder.reclaim(spec.alias)
        return self.heal(spec, kind, used) if used else None

    def _copied(self, spec: DatabaseSpec, kind: str) -> str:
        server, template = self.servers[spec.alias], self.template(spec, kind)

        def copy() -> str:
            name = self._fresh_name(spec)
            try:
                server.clone(
                    template, name, self.naming.mark("clone", server.now(), template=template)
                )
            except DatabaseError:
                self.folder.forget(name)
                raise
            return name

        return retry.call(
            copy,
            CloneFailed,
            self._retry_copy,
            monotonic=self.clock.monotonic,
            sleep=self.clock.sleep,
            note=lambda error: log.warning("trying again to make a clone: %s", error),
        )

    def _retry_copy(self, error: CloneFailed) -> Retry | None:
        # A full server is not asked again at once: the caller waits.
        full = error.fault in (ServerFault.DISK, ServerFault.CONNECTIONS)
        return None if full else self.again

    def _fresh_name(self, spec: DatabaseSpec) -> str:
        """A name, noted before its database exists, so that a crash leaves nothing unknown."""
        name = self.naming.clone_name(spec.alias, self.place)
        self.folder.note(name, spec.alias)
        return name
