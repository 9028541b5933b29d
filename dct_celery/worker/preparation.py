"""Everything between "there is a run" and "slots may claim": code, loader, proof of equality, templates."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dct_celery.core import signing
from dct_celery.errors import ConfigError, DctError, LeaseLost
from dct_celery.ports import DatabaseServer, DatabaseSpec, Ledger, UserProcess
from dct_celery.wire import messages
from dct_celery.worker.layout import RunFolder
from dct_celery.worker.services import WorkerServices
from dct_celery.worker.templates import Templates
from dct_celery.worker.testprocess import TestProcess

log = logging.getLogger("dct_celery.worker")
#: Distributions whose version decides no verdict.
_TOOLS = frozenset({"pip", "setuptools", "wheel", "uv", "dct-celery"})


class Refused(Exception):
    """This worker cannot take part: something differs from the dispatcher. `reason` is one line."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass(slots=True)
class Prepared:
    """A run that slots of this worker may claim chunks of."""

    loaded: messages.Loaded
    specs: list[DatabaseSpec]
    serialized: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    test_timeout: float | None = None

    def published(self) -> dict[str, Any]:
        return {
            "specs": [asdict(spec) for spec in self.specs],
            "serialized": self.serialized,
            "fingerprint": self.fingerprint,
            "test_timeout": self.test_timeout,
        }


class Preparation:
    """Prepares one run on this worker. `over` is asked while waiting; when it says so, LeaseLost is raised."""

    def __init__(self, services: WorkerServices, run: str, folder: RunFolder, ledger: Ledger, over: Callable[[], bool]) -> None:
        self._services = services
        self._run = run
        self._folder = folder
        self._ledger = ledger
        self._over = over
        self.process: UserProcess | None = None
        self.templates: Templates | None = None
        self.servers: dict[str, DatabaseServer] = {}
        self._forks = 0

    def prepare(self) -> Prepared:
        """Raises Refused, ProjectError, DatabaseError or another DctError; whoever calls tells the dispatcher."""
        spec = self._spec()
        self._folder.create()
        loaded = self._load(spec)
        log.info("run %s: %d tests loaded in %.2f s", self._run, loaded.count, loaded.seconds)
        self._check_redis(loaded)
        prepared = Prepared(loaded, [DatabaseSpec.from_dict(data) for data in loaded.databases])
        prepared.test_timeout = spec["test_timeout"]
        # The digest is part of the fingerprint, so templates are built without waiting for the dispatcher's own collection.
        prepared.fingerprint = _fingerprint(self._run, loaded, self._local_scope(prepared.specs))
        self.servers = {s.alias: self._services.server_for(s, self._folder.sqlite) for s in prepared.specs}
        self.templates = make_templates(self._services, self._run, self._folder, prepared, self.servers, self._fork)
        self.templates.check()
        self.templates.ensure_pristine()
        prepared.serialized = self.templates.ensure_serialized()
        log.info("run %s: templates are ready", self._run)
        self._compare(loaded, self._manifest(), spec)
        return prepared

    def _spec(self) -> dict[str, Any]:
        text = self._ledger.spec()
        if text is None:
            raise LeaseLost("the run is over")
        try:
            spec = signing.verify(text, self._services.key, what=f"run {self._run}")
        except ConfigError as error:
            raise Refused(str(error)) from error
        if spec["protocol"] != messages.PROTOCOL_VERSION:
            raise Refused(f"the dispatcher speaks protocol {spec['protocol']}, this worker {messages.PROTOCOL_VERSION}")
        return spec

    def _load(self, spec: Mapping[str, Any]) -> messages.Loaded:
        root = self._services.code(spec)
        os.mkfifo(self._folder.fork_fifo, 0o600)
        load = messages.Load(
            argv=list(spec["argv"]),
            settings=spec["settings"],
            root=str(root),
            directory=spec["directory"],
            sys_path=[os.path.normpath(root / entry) for entry in spec["sys_path"]],
            collect_only=False,
            fork_fifo=str(self._folder.fork_fifo),
        )
        # A tree is never changed, so its bytecode may lie in it and make the next run's imports cheap.
        own = {"PYTHONHASHSEED": spec["hash_seed"], "PYTHONDONTWRITEBYTECODE": ""}
        environment = self._services.user_environment(spec["environment"], own)
        python = self._services.settings.worker_python or sys.executable
        with self._folder.loader_log.open("ab") as log:
            self.process = self._services.start_process(python, load, environment, log)
        answer = self._wait(self.process)
        if isinstance(answer, messages.Loaded):
            return answer
        assert isinstance(answer, messages.Fatal)
        raise Refused(f"the suite cannot be built on this worker: {answer.message}", answer.detail)

    def _wait(self, process: UserProcess) -> messages.Message:
        while (answer := process.receive(timeout=0.2)) is None:
            if self._over():
                raise LeaseLost("the run is over")
        return answer

    def _fork(self, purpose: str) -> TestProcess:
        self._forks += 1
        folder = self._folder.fork_folder(f"{purpose}-{self._forks}")
        return TestProcess(folder, self._folder.fork_fifo, {})

    def _local_scope(self, specs: list[DatabaseSpec]) -> str:
        """Templates of a database that lives on this host belong to this worker alone."""
        return self._services.name if any(spec.vendor == "sqlite" for spec in specs) else ""

    def _manifest(self) -> dict[str, Any]:
        while (text := self._ledger.manifest()) is None:
            if self._over():
                raise LeaseLost("the run is over")
            time.sleep(0.02)
        return signing.verify(text, self._services.key, what=f"manifest of run {self._run}")

    def _compare(self, loaded: messages.Loaded, manifest: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        different = differences(manifest["environment"], loaded.environment, ignored=set(spec["ignore_packages"]))
        if different:
            raise Refused(
                f"the environment differs from the dispatcher's: {'; '.join(different[:5])}"
                + (f"; and {len(different) - 5} more" if len(different) > 5 else "")
                + " (install the same versions, or --ignore-package NAME)"
            )
        if loaded.digest != manifest["digest"]:
            raise Refused(
                f"the suite differs from the dispatcher's: {loaded.count} tests here, {manifest['count']} there, "
                f"manifest {loaded.digest[:12]} and {manifest['digest'][:12]} (does collection depend on the machine?)"
            )

    def _check_redis(self, loaded: messages.Loaded) -> None:
        shared = sorted(set(loaded.redis_in_use) & self._services.own_redis)
        if shared:
            raise Refused(
                f"the project uses the Redis database {shared[0]}, which is our store; a FLUSHDB in a test would erase the run "
                "(give the store a database of its own: --store redis://HOST/1)"
            )

    def close(self) -> None:
        """Ends the loader with all its forks, and drops what this run made here."""
        if self.process is not None:
            self.process.close(grace=2.0)
        for name, alias in self._folder.clones():
            if alias in self.servers:
                with contextlib.suppress(DctError):
                    self.servers[alias].drop(name)
        if self.templates is not None:
            self.templates.drop()
        for server in self.servers.values():
            server.close()


def make_templates(
    services: WorkerServices,
    run: str,
    folder: RunFolder,
    prepared: Prepared,
    servers: dict[str, DatabaseServer],
    fork: Callable[[str], TestProcess],
) -> Templates:
    mark = f"run={run} worker={services.name}"
    return Templates(prepared.fingerprint, prepared.specs, servers, fork, folder.path, mark)


def _fingerprint(run: str, loaded: messages.Loaded, scope: str) -> str:
    settings = {name: value for name, value in loaded.environment.items() if name.startswith("setting:")}
    parts = [run, loaded.digest, scope, settings]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def differences(there: Mapping[str, str], here: Mapping[str, str], *, ignored: set[str]) -> list[str]:
    """One text per name whose value differs between dispatcher (`there`) and worker (`here`)."""
    left_out = {f"package:{name.lower().replace('_', '-')}" for name in _TOOLS | ignored}
    names = sorted((set(there) | set(here)) - left_out)
    return [
        f"{name.partition(':')[2] or name} is {here.get(name, 'missing')} here and {there.get(name, 'missing')} there"
        for name in names
        if there.get(name) != here.get(name)
    ]
