"""Runs another command in this process's place: waits for it, and hands on the signals."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType


def run(argv: Sequence[str], env: Mapping[str, str], *, cwd: str | None = None, apart: bool) -> int:
    """Its exit code, or 128 and the number of the signal that ended it.

    `apart`: it has a session of its own, so that each Ctrl-C reaches it once, from here. Otherwise
    it shares the terminal, for debuggers, and has Ctrl-C from there.
    """
    has_terminal = not apart and sys.stdin is not None and sys.stdin.isatty()
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        if process is None:
            early.append(number)
        elif not (number == signal.SIGINT and has_terminal):
            process.send_signal(number)

    with _handled(hand_on):
        process = subprocess.Popen(argv, env=dict(env), cwd=cwd, start_new_session=apart)
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
