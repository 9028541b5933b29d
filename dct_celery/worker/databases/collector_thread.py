"""Garbage collection by a worker: on every database server it has ever used, at its start, by a
timer and with each run.
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

log = logging.getLogger("dct_celery.worker")
#: Seconds between looks: often at first, as what a killed worker left is only garbage when it
#: looked dead twice.
EARLY_SECONDS, EARLY_LOOKS, LATE_SECONDS = 20.0, 3, 300.0


@dataclass(slots=True)
class CollectorThread:
    """A thread of the worker's main process. `soon` brings the next look forward."""

    services: WorkerServices
    _wake: threading.Event = field(default_factory=threading.Event)
    _stop: bool = False
    _early: int = EARLY_LOOKS
    _collectors: dict[str, Collector] = field(default_factory=dict)
    _thread: threading.Thread | None = None
    _told: set[str] = field(default_factory=set)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="dct-collect", daemon=True)
        self._thread.start()

    def soon(self) -> None:
        """A run has started: its servers may hold what earlier ones left."""
        self._early = EARLY_LOOKS
        self._wake.set()

    def stop(self) -> None:
        self._stop = True
        self._wake.set()

    def _loop(self) -> None:
        while not self._stop:
            self._look_everywhere()
            self._early -= 1
            self.services.clock.wait(self._wake, EARLY_SECONDS if self._early > 0 else LATE_SECONDS)
            self._wake.clear()

    def _look_everywhere(self) -> None:
        try:
            for spec in self._specs():
                if not self._stop:
                    self._look(spec)
        except Exception:
            log.exception("collecting")

    def _specs(self) -> list[DatabaseSpec]:
        specs = self.services.folder.servers()
        if self.services.folder.sqlite.is_dir():
            specs.append(DatabaseSpec("sqlite", "sqlite", "sqlite"))
        return specs

    def _look(self, spec: DatabaseSpec) -> None:
        settings = self.services.settings
        try:
            # First of all: the lists may have grown since the server was used.
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
            log.exception("collecting on %s", server.where)
        finally:
            server.close()

    def _say(self, error: DctError) -> None:
        """What a guard refuses is for the user to see, once; a server that is away comes back."""
        is_new = isinstance(error, ConfigError) and str(error) not in self._told
        log.log(logging.WARNING if is_new else logging.DEBUG, "not collected: %s", error)
        self._told.add(str(error))
