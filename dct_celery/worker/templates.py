"""Templates of one run: built once under the server's own lock, by whichever worker comes first, and cloned by all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from dct_celery.core.names import template_name
from dct_celery.errors import DatabaseError, DctError, ProjectError
from dct_celery.ports import DatabaseServer, DatabaseSpec
from dct_celery.wire import messages
from dct_celery.worker.testprocess import TestProcess

#: Seconds for migrations, and for a flush.
BUILD_SECONDS = 3600.0
FLUSH_SECONDS = 600.0

Fork = Callable[[str], TestProcess]


class Templates:
    """Pristine and flushed templates of every test database of the selection.

    `fork` starts a helper process from the loader. Every method may be called by any slot at any time.
    """

    def __init__(
        self,
        fingerprint: str,
        specs: Sequence[DatabaseSpec],
        servers: dict[str, DatabaseServer],
        fork: Fork,
        folder: Path,
        mark: str,
    ) -> None:
        self._fingerprint = fingerprint
        self._specs = specs
        self._servers = servers
        self._fork = fork
        self._folder = folder
        self._mark = mark

    def name(self, alias: str, *, flushed: bool) -> str:
        return template_name(self._fingerprint, alias, flushed=flushed)

    def check(self) -> None:
        """Raises DatabaseError when a server cannot be used."""
        for server in self._servers.values():
            server.check()

    def ensure_pristine(self) -> None:
        """Builds all templates unless they are there. Raises ProjectError with Django's own output when it fails to."""
        if not self._specs:
            # Without databases the system checks still have to run, once per worker.
            self._build({})
            return
        with self._locks(flushed=False):
            if all(self._servers[s.alias].is_ready(self.name(s.alias, flushed=False)) for s in self._specs):
                return
            names = {s.alias: self.name(s.alias, flushed=False) for s in self._specs}
            self._discard(names)
            try:
                self._build({alias: self._servers[alias].place(name) for alias, name in names.items()})
            except DctError:
                self._discard(names)
                raise
            for alias, name in names.items():
                self._servers[alias].seal(name, self._mark)

    def ensure_flushed(self, aliases: Iterable[str]) -> None:
        """Makes the flushed template of each alias from its pristine one. Raises DatabaseError."""
        wanted = set(aliases)
        for spec in [spec for spec in self._specs if spec.alias in wanted]:
            server, name = self._servers[spec.alias], self.name(spec.alias, flushed=True)
            with server.lock(name):
                if not server.is_ready(name):
                    self._discard({spec.alias: name})
                    self._flush(spec, name)
                    server.seal(name, self._mark)

    def ensure_serialized(self) -> dict[str, str]:
        """Files with the serialized contents of the pristine templates, for the aliases that want them."""
        wanted = [spec for spec in self._specs if spec.serialize]
        files = {spec.alias: str(self._folder / f"serialized-{spec.alias}.json") for spec in wanted}
        if all(os.path.exists(path) for path in files.values()):
            return files
        with self._scratch(set()) as places, self._helper("serialize") as process:
            answer = process.ask(messages.Serialize(places, files), messages.Serialized, FLUSH_SECONDS)
            if isinstance(answer, messages.Fatal):
                raise DatabaseError(f"the template could not be serialized: {answer.message}", detail=answer.detail)
        return files

    def drop(self) -> None:
        """Drops what this run built. Absent is fine: every worker of the run tries."""
        for spec in self._specs:
            for flushed in (True, False):
                with contextlib.suppress(DatabaseError):
                    self._servers[spec.alias].drop(self.name(spec.alias, flushed=flushed))

    def _build(self, places: dict[str, str]) -> None:
        with self._helper("build") as process:
            answer = process.ask(messages.Build(places), messages.Built, BUILD_SECONDS)
        if isinstance(answer, messages.Fatal):
            raise ProjectError(answer.message, detail=answer.detail)

    def _flush(self, spec: DatabaseSpec, name: str) -> None:
        """Flushes a copy of the pristine template, with pristine clones of the other databases beside it."""
        server = self._servers[spec.alias]
        server.clone(self.name(spec.alias, flushed=False), name, "flushed template in the making")
        with self._scratch({spec.alias}) as others, self._helper("flush") as process:
            places = {**others, spec.alias: server.place(name)}
            answer = process.ask(messages.Flush(places, [spec.alias]), messages.Flushed, FLUSH_SECONDS)
        if isinstance(answer, messages.Fatal):
            server.drop(name)
            raise DatabaseError(f"the template could not be flushed: {answer.message}", detail=answer.detail)

    @contextlib.contextmanager
    def _scratch(self, but: set[str]) -> Iterator[dict[str, str]]:
        """Short-lived pristine clones of all databases but some: alias -> place."""
        names = {
            spec.alias: f"{self.name(spec.alias, flushed=False)}_{self._scratch_token()}"
            for spec in self._specs
            if spec.alias not in but
        }
        try:
            for alias, name in names.items():
                self._servers[alias].clone(self.name(alias, flushed=False), name, self._mark)
            yield {alias: self._servers[alias].place(name) for alias, name in names.items()}
        finally:
            for alias, name in names.items():
                with contextlib.suppress(DatabaseError):
                    self._servers[alias].drop(name)

    def _scratch_token(self) -> str:
        """Differs between slots, workers, hosts and calls; a process id would not differ between two containers."""
        return secrets.token_hex(4)

    @contextlib.contextmanager
    def _helper(self, purpose: str) -> Iterator[TestProcess]:
        process = self._fork(purpose)
        try:
            yield process
        finally:
            process.finish(grace=2.0)

    def _discard(self, names: dict[str, str]) -> None:
        """What a builder left that died half way: our name, no mark."""
        for alias, name in names.items():
            self._servers[alias].discard(name)

    def _locks(self, *, flushed: bool) -> contextlib.ExitStack:
        """The locks of all servers, in the order of their aliases, so that two builders cannot wait for each other."""
        stack = contextlib.ExitStack()
        try:
            for spec in sorted(self._specs, key=lambda spec: spec.alias):
                stack.enter_context(self._servers[spec.alias].lock(self.name(spec.alias, flushed=flushed)))
        except DctError:
            stack.close()
            raise
        return stack
