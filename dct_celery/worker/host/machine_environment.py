"""The environment that this worker gives to tests, in the store, for `dct doctor` to compare."""

from __future__ import annotations

import logging
import threading

from dct_celery.core.ids import digest_of
from dct_celery.errors import ProcessDied
from dct_celery.worker.services import WorkerServices

log = logging.getLogger(__name__)
#: Seconds between two times that it is put into the store, which forgets what nobody renews.
RENEW = 600.0
#: Seconds until it is described: a run may be waiting for this worker, and the worker of one short
#: run (`--local`) need not do it at all.
DESCRIBE_AFTER = 3.0


class MachineEnvironment:
    """Described once, by a process of the project's interpreter; see `protocol.workers`."""

    def __init__(self, services: WorkerServices) -> None:
        self._services = services
        self._content = b""
        self._put_at = float("-inf")
        self._due_at = services.clock.monotonic() + DESCRIBE_AFTER
        self._thread = threading.Thread(target=self._describe, name="dct-environment", daemon=True)

    @property
    def about(self) -> dict[str, str]:
        """For `WorkerInfo.about`: the digest, once it is known."""
        return {"environment": digest_of(self._content)} if self._content else {}

    def renew(self) -> None:
        """To be called at each heartbeat: has it described, and puts it into the store, when that
        is due. Raises StoreUnavailable.
        """
        now = self._services.clock.monotonic()
        if now >= self._due_at:
            self._due_at = float("inf")
            self._thread.start()
        if self._content and now - self._put_at >= RENEW:
            self._services.send_files("", [(digest_of(self._content), self._content)])
            self._put_at = now

    def _describe(self) -> None:
        try:
            self._content = self._services.describe_environment()
        except ProcessDied as error:
            log.warning("%s; check DCT_PYTHON", error)
