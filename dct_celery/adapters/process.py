"""Starts the user's process, perhaps with another interpreter.

It must find this package there, and nothing else of ours.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import dct_celery
from dct_celery.errors import ProcessDied
from dct_celery.wire import framing, messages
from dct_celery.wire.process import STACKS_SIGNAL

PACKAGE = Path(dct_celery.__file__).parent
#: Loads this package from its own folder: with its parent on sys.path, the project would see the
#: worker's whole environment. A copy installed in the project's environment is not used, so that
#: both ends speak one protocol.
LOAD = """\
import sys, importlib.util
package = sys.argv[1]
spec = importlib.util.spec_from_file_location(
    "dct_celery", package + "/__init__.py", submodule_search_locations=[package])
module = importlib.util.module_from_spec(spec)
sys.modules["dct_celery"] = module
spec.loader.exec_module(module)
"""
BOOT = f"""{LOAD}
from dct_celery.testproc.main import run
run(sys.argv[2:])
"""
TELL = f"""{LOAD}
from dct_celery.testproc.django.environment import tell
tell()
"""
#: Seconds for an interpreter to describe itself.
_TELL_SECONDS = 60.0
#: Never passed on from this machine to the user's process: our own settings; Celery's, which the
#: project's Celery would take for its own; and what the CI job alone decides.
_SCRUBBED = ("DCT_", "_DCT_", "CELERY_", "FORKED_BY_MULTIPROCESSING", "DJANGO_SETTINGS_MODULE")


class PipeProcess:
    """A collect process or loader, connected by two pipes."""

    def __init__(
        self, python: str, load: messages.Load, environment: Mapping[str, str], log: IO[bytes] | int
    ) -> None:
        self._deframer = framing.Deframer()
        child_in, self._to = os.pipe()
        self._from, child_out = os.pipe()
        try:
            self._process = subprocess.Popen(
                [python, "-c", BOOT, str(PACKAGE), str(child_in), str(child_out)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                pass_fds=(child_in, child_out),
                start_new_session=True,
            )
        except OSError as error:
            self.close()
            raise ProcessDied(
                f"the interpreter {python} cannot be started: {error.strerror}"
            ) from error
        finally:
            os.close(child_in)
            os.close(child_out)
        self.send(load)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: messages.Message) -> None:
        with contextlib.suppress(BrokenPipeError):  # `receive` reports its death
            os.write(self._to, framing.frame(message.encode()))

    def receive(self, timeout: float | None = None) -> messages.Message | None:
        """The next message; None when `timeout` seconds pass.

        Raises ProcessDied at end of file, ProtocolError for garbage.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (payload := self._deframer.next()) is None:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not select.select([self._from], [], [], left)[0]:
                return None
            data = os.read(self._from, 1 << 16)
            if not data:
                raise ProcessDied(f"the process that imports the project ended ({self._status()})")
            self._deframer.feed(data)
        return messages.decode(payload)

    def alive(self) -> bool:
        return self._process.poll() is None

    def show_stacks(self) -> None:
        if self.alive():
            os.kill(self._process.pid, STACKS_SIGNAL)
            os.kill(self._process.pid, signal.SIGCONT)
            time.sleep(0.5)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _status(self) -> str:
        try:
            code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "it closed its channel"
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    def close(self, grace: float = 5.0) -> None:
        """Closes the channel, which ends the process; kills its session after `grace` seconds."""
        for fd in (self._to, self._from):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._to = self._from = -1
        process = getattr(self, "_process", None)
        if process is None:
            return
        try:
            process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def describe_environment(python: str, environment: Mapping[str, str], key: str) -> bytes:
    """JSON of a `MachineEnvironment`: of this interpreter, started with this environment.

    `key`: for hashes of variables. Raises ProcessDied.
    """
    try:
        done = subprocess.run(
            [python, "-c", TELL, str(PACKAGE)],
            env=dict(environment),
            input=key.encode(),
            capture_output=True,
            check=True,
            timeout=_TELL_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ProcessDied(f"the interpreter {python} does not describe itself: {error}") from error
    return done.stdout


def user_environment(
    base: Mapping[str, str], forwarded: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, str]:
    """The environment of the user's process.

    This machine's without our own variables, then those that the CI job forwards, then our
    additions.
    """
    kept = {name: value for name, value in base.items() if not name.startswith(_SCRUBBED)}
    return {**kept, **forwarded, **own, "DCT_TEST_PROCESS": "1"}
