"""The pipe to the worker, as hardened as a pipe inside a test's process can be.

The descriptor sits high, so that `closerange(3, 256)` misses it; `os.write` is bound at import, so that patches miss it; a
forked child of a test inherits the descriptor but may not speak on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TypeVar

from dct_celery.errors import ProtocolError
from dct_celery.wire import framing, messages

M = TypeVar("M", bound=messages.Message)

_write = os.write
_read = os.read
_getpid = os.getpid
#: Lowest descriptor number of ours.
HIGH = 900


def raise_descriptor(fd: int) -> int:
    """A close-on-exec copy of `fd` at or above HIGH; `fd` itself is closed."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(fd)
    return high


class Channel:
    """Messages in both directions. Owned by one process: in any other, sending does nothing."""

    def __init__(self, inbox: int, outbox: int) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._owner = _getpid()
        self._deframer = framing.Deframer()
        self._ready: list[bytes] = []
        self._held = b""

    def send(self, message: messages.Message) -> None:
        """Writes what is held and this message, whole. Raises OSError when the worker is gone."""
        self.hold(message.encode())
        self.flush()

    def hold(self, encoded: bytes) -> None:
        """Keeps an encoded message for the next `send` or `flush`: two messages in one write wake the slot once."""
        self._held += framing.frame(encoded)

    def flush(self) -> None:
        data, self._held = self._held, b""
        if _getpid() != self._owner:
            return
        while data:
            data = data[_write(self._outbox, data) :]

    def receive(self) -> messages.Message | None:
        """The next message, or None when the worker closed its end."""
        while not self._ready:
            data = _read(self._inbox, 65536)
            if not data:
                return None
            self._ready = self._deframer.feed(data)
        return messages.decode(self._ready.pop(0))

    def expect(self, kind: type[M]) -> M | None:
        """The next message, which must be a `kind`; None at end of file. Raises ProtocolError for another."""
        received = self.receive()
        if received is None or isinstance(received, kind):
            return received
        raise ProtocolError(f"expected {kind.__name__}, received {received.kind}")

    def fileno(self) -> int:
        return self._inbox

    def close(self) -> None:
        for fd in (self._inbox, self._outbox):
            with contextlib.suppress(OSError):
                os.close(fd)
