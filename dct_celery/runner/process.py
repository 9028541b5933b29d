"""The process of `dct run`: its variables, and the signals that it gets from here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any


def environment() -> dict[str, str]:
    """The variables that this process was started with.

    What the project's command has added since, it adds again where the tests are loaded; settings
    of ours count wherever they come from.
    """
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if b"=" in entry)
    ours = {name: value for name, value in os.environ.items() if name.startswith("DCT_")}
    return {name: value for name, _, value in pairs} | ours


def colours(given: Mapping[str, Any]) -> dict[str, str]:
    return {
        variable: "1" for variable in ("NO_COLOR", "FORCE_COLOR") if given.get(variable.lower())
    }


def run(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs the command, and returns its exit code.

    The process has its own session, so that each Ctrl-C reaches it once, from here: a second
    signal would kill it.
    """
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        early.append(number) if process is None else process.send_signal(number)

    with _handled(forward):
        process = subprocess.Popen(argv, env=env, start_new_session=True)
        for number in early:
            process.send_signal(number)
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP go to the handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
