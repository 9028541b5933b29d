"""Garbage collection by a worker, on every database server it has used: at its start, regularly,
and when a run begins.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from dct_celery.errors import ConfigError, DctError
from dct_celery.ports import DatabaseSpec
from dct_celery.worker.databases import denied
from dct_celery.worker.databases.garbage_collector import Collector
from dct_celery.worker.services import WorkerServices

log = logging.getLogger(__name__)
#: Seconds between the first rounds: what a killed worker left must look dead twice before it goes.
EARLY_SECONDS = 20.0
#: Number of rounds in such quick succession.
EARLY_ROUNDS = 3
#: Seconds between later rounds.
LATE_SECONDS = 300.0


@dataclass(slots=True)
class CollectorThread:
    """A thread of the worker's main process. `soon` brings the next round forward."""

    services: WorkerServices
    _wake: threading.Event = field(default_factory=threading.Event)
    _stop: bool = False
    _early: int = EARLY_ROUNDS
    _collectors: dict[str, Collector] = field(default_factory=dict)
    _thread: threading.Thread | None = None
    _reported: set[str] = field(default_factory=set)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="dct-collect", daemon=True)
        self._thread.start()

    def soon(self) -> None:
        """A run has started: its servers may hold what earlier ones left."""
        self._early = EARLY_ROUNDS
        self._wake.set()

    def stop(self) -> None:
        self._stop = True
        self._wake.set()

    def _loop(self) -> None:
        while not self._stop:
            self._collect_everywhere()
            self._early -= 1
            self.services.clock.wait(self._wake, EARLY_SECONDS if self._early > 0 else LATE_SECONDS)
            self._wake.clear()

    def _collect_everywhere(self) -> None:
        try:
            for spec in self._specs():
                if not self._stop:
                    self._collect(spec)
        except Exception:
            log.exception("collecting garbage")

    def _specs(self) -> list[DatabaseSpec]:
        specs = self.services.folder.servers()
        if self.services.folder.sqlite.is_dir():
            specs.append(DatabaseSpec("sqlite", "sqlite", "sqlite"))
        return specs

    def _collect(self, spec: DatabaseSpec) -> None:
        settings = self.services.settings
        try:
            # First of all, as the lists may have grown since the server was used.
            denied.refuse_settings(self.services, spec)
            server = self.services.server_for(spec)
        except DctError as error:
            self._say(error)
            return
        try:
            denied.refuse_address(self.services, spec, server, settings.deny_db_host)
            collector = self._collectors.setdefault(
                f"{server.vendor} {server.where} {spec.user}", Collector()
            )
            for result in collector.collect(
                server, budget=(settings.templates_kept, settings.templates_megabytes)
            ):
                if result.action == "dropped":
                    log.info("%s: dropped %s: %s", server.where, result.name, result.reason)
        except DctError as error:
            self._say(error)
        except Exception:
            log.exception("collecting garbage on %s", server.where)
        finally:
            server.close()

    def _say(self, error: DctError) -> None:
        """What a guard refuses is shown to the user once; a server that is away will come back."""
        is_new = isinstance(error, ConfigError) and str(error) not in self._reported
        log.log(logging.WARNING if is_new else logging.DEBUG, "not collected: %s", error)
        self._reported.add(str(error))
