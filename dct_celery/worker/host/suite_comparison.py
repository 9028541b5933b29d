"""Why this worker's suite is not the dispatcher's, in one sentence with both names."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from dct_celery.core.suite_difference import NOTHING, Identity, explained
from dct_celery.errors import DctError
from dct_celery.ports import Clock, Ledger
from dct_celery.protocol.door import Door
from dct_celery.protocol.heads import Head
from dct_celery.wire import messages
from dct_celery.worker.processes.test_process import TestProcess

#: Seconds that the dispatcher has to write the run's head: it follows the manifest at once.
_HEAD_SECONDS = 20.0
#: Seconds for a test process to write down its suite.
_WRITE_SECONDS = 60.0


class SuiteComparison:
    """Compares test by test, once the digests have been found to differ."""

    def __init__(
        self,
        ledger: Ledger,
        door: Door,
        fork: Callable[[str], TestProcess],
        file: Path,
        clock: Clock,
        over: Callable[[], bool],
        root: str = "",
        unimported: Mapping[str, str] = NOTHING,
    ) -> None:
        """`file`: for the suite of this worker. `over`: the run has ended.

        `root`, `unimported`: see `core.suite_difference.explained`.
        """
        self._ledger, self._door, self._fork = ledger, door, fork
        self._file, self._clock, self._over = file, clock, over
        self._root, self._unimported = root, unimported

    def explain(self) -> str:
        """Empty where one of the two suites cannot be had."""
        with contextlib.suppress(DctError, OSError, ValueError):
            there = self._dispatchers()
            if there is not None:
                return explained(there, self._own(), self._root, self._unimported)
        return ""

    def _dispatchers(self) -> list[Identity] | None:
        deadline = self._clock.monotonic() + _HEAD_SECONDS
        while (data := self._ledger.head()) is None:
            if self._over() or self._clock.monotonic() > deadline:
                return None
            self._clock.sleep(0.1)
        head = Head.read(data, self._door)
        return [(entry.id, entry.cls, entry.phase.value) for entry in head.entries]

    def _own(self) -> list[Identity]:
        process = self._fork("suite")
        try:
            process.ask(messages.WriteSuite(str(self._file)), messages.SuiteWritten, _WRITE_SECONDS)
        finally:
            process.finish(grace=2.0)
        rows = json.loads(self._file.read_text(encoding="ascii"))
        return [(str(name), str(cls), str(phase)) for name, cls, phase in rows]
