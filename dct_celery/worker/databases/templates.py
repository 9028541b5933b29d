"""Templates: built once per schema, fleet-wide, under the server's own lock; cloned by every run
that has the same key.

A template that is found is used as it is: its key covers everything that decides its contents.
While a run uses it, the run's liveness lock holds it, so that it is not dropped for its age. A
missing one is restored from an exported file if this worker has one, and built by the project's own
migrations otherwise.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dct_celery.core.databases.marks import Mark
from dct_celery.core.databases.names import ownership_limit, template_name
from dct_celery.core.databases.server_fault import fault_in_answer
from dct_celery.errors import (
    ConfigError,
    DatabaseError,
    DatabaseUnfit,
    DctError,
    ProjectError,
    ServerFault,
)
from dct_celery.ports import Clock, DatabaseServer, DatabaseSpec
from dct_celery.security.folders import remove_below
from dct_celery.wire import messages
from dct_celery.worker.databases.liveness import LivenessLocks
from dct_celery.worker.databases.naming import CloneNaming
from dct_celery.worker.databases.server_probe import ServerProbe
from dct_celery.worker.processes.test_process import TestProcess

log = logging.getLogger(__name__)
#: Seconds for migrations.
BUILD_SECONDS = 3600.0
#: Seconds for a flush, a serialization or system checks.
FLUSH_SECONDS = 600.0
#: Seconds that --create-db waits for another run to let go of the template.
BUSY_SECONDS = 60.0

Fork = Callable[[str], TestProcess]


class Templates:
    """Pristine and flushed templates of every test database of the selection.

    `fork` starts a helper process from the loader. One per process (worker main, slot). Not
    thread-safe.
    """

    def __init__(
        self,
        key: str,
        specs: Sequence[DatabaseSpec],
        servers: Mapping[str, DatabaseServer],
        fork: Fork,
        cache: Path,
        naming: CloneNaming,
        clock: Clock,
        liveness: LivenessLocks | None = None,
    ) -> None:
        self.key = key
        self._specs = specs
        self._servers = servers
        self._fork = fork
        self._cache = cache
        self._naming = naming
        self._clock = clock
        self._liveness = liveness
        #: alias -> state of its template, once that exists.
        self._states: dict[str, str] = {}

    def name(self, alias: str, *, flushed: bool) -> str:
        project = next((spec.project for spec in self._specs if spec.project), "")
        return template_name(self.key, alias, flushed=flushed, project=project)

    # -- pristine ----------------------------------------------------------------------

    def ensure_pristine(self, *, rebuild: bool = False) -> str:
        """Makes all templates unless they exist; returns "reused", "restored" or "built".

        `rebuild`: only templates that this very run has built count (--create-db). If the result is
        "built", system checks have run. Raises ProjectError with Django's own output if the project
        fails to build them.
        """
        if not self._specs:
            # Without databases the system checks still have to run, once per worker.
            self._build({})
            return "built"
        deadline = self._clock.monotonic() + BUSY_SECONDS
        while True:
            with self._locks():
                how = self._reuse_or_make(rebuild=rebuild)
                if how:
                    self._hold(flushed=False)
                    self._match_cache()
                    return how
            self._step_aside(rebuild=rebuild, deadline=deadline)

    def _reuse_or_make(self, *, rebuild: bool) -> str:
        """Empty if templates that another run uses would have to be replaced."""
        if self._usable(rebuild=rebuild):
            return "reused"
        return "" if self._busy() else self._make(rebuild=rebuild)

    def _step_aside(self, *, rebuild: bool, deadline: float) -> None:
        """Another run uses some of the templates. `rebuild` waits for its end; otherwise this run
        makes its own set, under another key, which all its workers derive in the same way.
        """
        busy = ", ".join(self._busy() or self._names().values())
        if not rebuild:
            log.warning(
                "templates %s are in use, others of their set are missing: this run makes its own",
                busy,
            )
            self.key = hashlib.sha256(f"{self.key} {self._naming.run}".encode()).hexdigest()
            self._cache = self._cache.with_name(self.key[: len(self._cache.name)])
        elif self._clock.monotonic() > deadline:
            raise DatabaseError(
                f"--create-db cannot replace the template {busy}: another run uses it; "
                "wait for its end, or leave the option out"
            )
        else:
            self._clock.sleep(0.2)

    def _names(self) -> dict[str, str]:
        return {spec.alias: self.name(spec.alias, flushed=False) for spec in self._specs}

    def _usable(self, *, rebuild: bool) -> bool:
        """All exist; then they are marked as used now."""
        marks: dict[str, Mark] = {}
        for alias, name in self._names().items():
            mark = self._servers[alias].find(name)
            if (
                mark is None
                or mark.kind != "template"
                or (rebuild and mark.run != self._naming.run)
            ):
                return False
            marks[alias] = mark
        for alias, mark in marks.items():
            self._states[alias] = mark.state
            server = self._servers[alias]
            server.remark(self.name(alias, flushed=False), self._naming.touched(mark, server.now()))
        return True

    def _busy(self) -> list[str]:
        return [name for alias, name in self._names().items() if self._servers[alias].in_use(name)]

    def _make(self, *, rebuild: bool) -> str:
        names = self._names()
        self._discard(names)
        # A flushed template goes together with its pristine one.
        self._discard({alias: self.name(alias, flushed=True) for alias in names})
        try:
            how = "restored" if not rebuild and self._restore(names) else self._build_all(names)
            for alias, name in names.items():
                self._states[alias] = self._seal(self._servers[alias], name, "template")
        except DctError:
            self._discard(names)
            raise
        return how

    def _build_all(self, names: Mapping[str, str]) -> str:
        limits = {}
        for spec in self._specs:
            server, name = self._servers[spec.alias], names[spec.alias]
            server.announce(name, self._naming.mark("building", server.now()))
            if server.vendor == "postgresql":
                limits[spec.alias] = ownership_limit(name)
        self._build(
            {alias: self._servers[alias].place(name) for alias, name in names.items()}, limits
        )
        return "built"

    def _seal(self, server: DatabaseServer, name: str, kind: str) -> str:
        state = server.state(name)
        server.seal(name, self._naming.mark(kind, server.now()).but(state=state))
        return state

    def _build(self, places: dict[str, str], limits: dict[str, int] | None = None) -> None:
        probe = self._probe()
        question = messages.Build(places, limits or {}, identities(self._servers))
        with self._helper("build") as process:
            answer = process.ask(question, messages.Built, BUILD_SECONDS, probe.watch)
        if isinstance(answer, messages.Fatal) and answer.reason == "elsewhere":
            raise _refused("", answer)
        if isinstance(answer, messages.Fatal):
            raise self._blamed(answer, probe) or ProjectError(answer.message, detail=answer.detail)

    def _probe(self) -> ServerProbe:
        probe = ServerProbe(self._servers.values(), self._clock)
        probe.remember()
        return probe

    def _blamed(self, answer: messages.Fatal, probe: ServerProbe) -> DatabaseError | None:
        """The error to raise if the server caused the failure, which is not the project's then."""
        fault = fault_in_answer(answer.message, answer.detail)
        outage = probe.outage() or (f"the database server {fault}" if fault else "")
        if not outage:
            return None
        return DatabaseError(
            f"{outage} ({answer.message})", detail=answer.detail, fault=fault or ServerFault.AWAY
        )

    # -- export and restore --------------------------------------------------------------

    def _file(self, alias: str) -> Path:
        return self._cache / f"{alias}.export"

    def _restore(self, names: Mapping[str, str]) -> bool:
        """Restores from this worker's files, if it has one for each alias. Deletes files that fail
        to reproduce the templates.
        """
        if not all(self._file(alias).exists() for alias in names):
            return False
        try:
            for alias, name in names.items():
                server = self._servers[alias]
                server.restore(self._file(alias), name, self._naming.mark("building", server.now()))
        except DatabaseError as error:
            log.warning("templates are built again: %s", error)
            for alias in names:
                self._file(alias).unlink(missing_ok=True)
            self._discard(names)
            return False
        return True

    def _match_cache(self) -> None:
        """Deletes files of an earlier template of this key: its rows may hold other times and
        random keys.
        """
        text, file = json.dumps(self._states, sort_keys=True), self._cache / "states.json"
        if file.exists() and file.read_text() == text:
            os.utime(self._cache)  # used, so not pruned
            return
        remove_below(self._cache.parent, self._cache)
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(text)

    def export(self) -> None:
        """Writes the files from which `ensure_pristine` restores templates that a server has lost.
        Raises DatabaseError.
        """
        impossible = self._cache / "not-exported"
        if impossible.exists() or all(self._file(spec.alias).exists() for spec in self._specs):
            return
        with self._scratch(set()) as names:
            for alias, name in names.items():
                if not self._servers[alias].export(name, self._file(alias)):
                    impossible.write_text(alias)
                    return

    # -- flushed -------------------------------------------------------------------------

    def ensure_flushed(self, aliases: Iterable[str]) -> None:
        """Makes the flushed template of each alias from its pristine one. Raises DatabaseError."""
        wanted = set(aliases)
        for spec in [spec for spec in self._specs if spec.alias in wanted]:
            server, name = self._servers[spec.alias], self.name(spec.alias, flushed=True)
            with server.lock(name):
                mark = server.find(name)
                if mark is not None and mark.kind == "flushed":
                    server.remark(name, self._naming.touched(mark, server.now()))
                else:
                    server.discard(name)
                    self._flush(spec, name)
                    self._seal(server, name, "flushed")
                self._hold_one(spec, name)

    def _flush(self, spec: DatabaseSpec, name: str) -> None:
        """Flushes a copy of the pristine template, with pristine clones of the other databases
        beside it. What a flush that fails leaves is what the next test finds in the sequential run.
        """
        server = self._servers[spec.alias]
        server.clone(
            self.name(spec.alias, flushed=False), name, self._naming.mark("building", server.now())
        )
        with self._scratch({spec.alias}) as others, self._helper("flush") as process:
            places = {
                alias: self._servers[alias].place(other)
                for alias, other in {**others, spec.alias: name}.items()
            }
            question = messages.Flush(places, [spec.alias], identities(self._servers))
            answer = process.ask(question, messages.Flushed, FLUSH_SECONDS, self._probe().watch)
        if isinstance(answer, messages.Fatal):
            server.drop(name)
            raise _refused("the template could not be flushed: ", answer)
        if answer.failed:
            # So do the flushes of its tests, and say so: no reason to keep those from running.
            log.warning("database %r cannot be flushed: %s", spec.alias, answer.failed)

    # -- what belongs to a template --------------------------------------------------------

    def ensure_serialized(self) -> dict[str, str]:
        """Files with the serialized contents of the pristine templates, for the aliases that want
        them.
        """
        wanted = [spec for spec in self._specs if spec.serialize]
        files = {spec.alias: str(self._cache / f"{spec.alias}.serialized.json") for spec in wanted}
        if all(os.path.exists(path) for path in files.values()):
            return files
        with self._scratch(set()) as names, self._helper("serialize") as process:
            question = messages.Serialize(self._places(names), files, identities(self._servers))
            answer = process.ask(question, messages.Serialized, FLUSH_SECONDS, self._probe().watch)
            if isinstance(answer, messages.Fatal):
                raise _refused("the template could not be serialized: ", answer)
        return files

    def migrate_again(self, ask: Callable[[messages.MigrateAgain], messages.Message]) -> None:
        """Has the loader migrate short-lived clones, see `messages.MigrateAgain`. Raises
        ConfigError, DatabaseError.
        """
        probe = self._probe()
        with self._scratch(set()) as names:
            answer = ask(messages.MigrateAgain(self._places(names), identities(self._servers)))
        if isinstance(answer, messages.Fatal) and answer.reason == "elsewhere":
            raise _refused("", answer)
        if isinstance(answer, messages.Fatal):
            raise self._blamed(answer, probe) or ConfigError(
                "the project's receivers of pre_migrate or post_migrate fail when they run again on"
                f" a migrated database, as on each deployment: {answer.message}",
                detail=answer.detail,
            )

    def run_checks(self, names: Mapping[str, str], passed: Callable[[], None]) -> None:
        """Django's system checks on clones of the templates. `passed` is called as soon as they
        have found nothing. Raises ProjectError with what they found.
        """
        with self._helper("check") as process:
            answer = process.ask(
                messages.Check(self._places(names), identities(self._servers)),
                messages.Checked,
                FLUSH_SECONDS,
            )
            if isinstance(answer, messages.Checked):
                passed()
        if isinstance(answer, messages.Fatal):
            error = _refused("", answer)
            raise (
                error
                if answer.reason != "checks" or error.fault
                else ProjectError(answer.message, detail=answer.detail)
            )

    # -- parts -----------------------------------------------------------------------------

    def _places(self, names: Mapping[str, str]) -> dict[str, str]:
        return {alias: self._servers[alias].place(name) for alias, name in names.items()}

    def _hold(self, *, flushed: bool) -> None:
        for spec in self._specs:
            self._hold_one(spec, self.name(spec.alias, flushed=flushed))

    def _hold_one(self, spec: DatabaseSpec, name: str) -> None:
        if self._liveness is not None:
            self._liveness.hold(spec.alias, [name])

    @contextlib.contextmanager
    def _scratch(self, but: set[str]) -> Iterator[dict[str, str]]:
        """Short-lived pristine clones of all databases but some: alias -> name."""
        names = {
            spec.alias: f"{self.name(spec.alias, flushed=False)}_{secrets.token_hex(4)}"
            for spec in self._specs
            if spec.alias not in but
        }
        try:
            for alias, name in names.items():
                server, template = self._servers[alias], self.name(alias, flushed=False)
                server.clone(
                    template, name, self._naming.mark("clone", server.now(), template=template)
                )
            yield names
        finally:
            for alias, name in names.items():
                with contextlib.suppress(DatabaseError):
                    self._servers[alias].drop(name)

    @contextlib.contextmanager
    def _helper(self, purpose: str) -> Iterator[TestProcess]:
        process = self._fork(purpose)
        try:
            yield process
        finally:
            process.finish(grace=2.0)

    def _discard(self, names: Mapping[str, str]) -> None:
        """Removes what a builder that died left half made, or what is to be replaced."""
        for alias, name in names.items():
            self._servers[alias].discard(name)

    def _locks(self) -> contextlib.ExitStack:
        """The locks of all servers, in the order of their aliases, so that two builders cannot wait
        for each other.
        """
        stack = contextlib.ExitStack()
        try:
            for spec in sorted(self._specs, key=lambda spec: spec.alias):
                stack.enter_context(
                    self._servers[spec.alias].lock(self.name(spec.alias, flushed=False))
                )
        except DctError:
            stack.close()
            raise
        return stack


def identities(servers: Mapping[str, DatabaseServer]) -> dict[str, str]:
    """By alias, of those that have one. Raises DatabaseError."""
    return {alias: identity for alias, server in servers.items() if (identity := server.identity())}


def _refused(what: str, answer: messages.Fatal) -> DatabaseError:
    if answer.reason == "elsewhere":
        return DatabaseUnfit(answer.message, detail=answer.detail)
    fault = fault_in_answer(answer.message, answer.detail)
    return DatabaseError(f"{what}{answer.message}", detail=answer.detail, fault=fault)
