"""The pipe to the worker, as robust as a pipe inside a test's process can be.

Its descriptors are high, so that `closerange(3, 256)` misses them; `os.write` is bound at import,
so that patches miss it. A process that a test forks has no channel: returning from its test, it
would run the rest of the chunk a second time, so it ends where it tries to send or receive.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TypeVar

from dct_celery.errors import ProtocolError
from dct_celery.wire import framing, messages
from dct_celery.wire.messages import CHANNEL_CLOSED

M = TypeVar("M", bound=messages.Message)

_write = os.write
_read = os.read
_close = os.close
_getpid = os.getpid
_exit = os._exit
#: Lowest number of a descriptor of ours.
HIGH = 900


def raise_descriptor(fd: int) -> int:
    """A close-on-exec copy of `fd` at or above HIGH; `fd` itself is closed."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(fd)
    return high


class Channel:
    """Messages in both directions, for one process: any other that uses it ends at once."""

    def __init__(self, inbox: int, outbox: int) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._owner = _getpid()
        self._deframer = framing.Deframer()
        self._held = b""
        os.register_at_fork(after_in_child=self.close)

    @property
    def owned(self) -> bool:
        """False in a forked child."""
        return _getpid() == self._owner

    def send(self, message: messages.Message) -> None:
        """Writes held messages and this one completely. Raises OSError when the worker is gone."""
        self.hold(message.encode())
        self.flush()

    def hold(self, encoded: bytes) -> None:
        """Keeps an encoded message for the next `send` or `flush`.

        Two messages in one write wake the slot only once.
        """
        self._held += framing.frame(encoded)

    def flush(self) -> None:
        data, self._held = self._held, b""
        if not self.owned:
            _exit(0)
        try:
            while data:
                data = data[_write(self._outbox, data) :]
        except OSError as error:
            _leave_if_closed(error)
            raise

    def receive(self) -> messages.Message | None:
        """The next message, or None when the worker closed its end."""
        while (payload := self._deframer.next()) is None:
            data = self._read()
            if not data:
                return None
            self._deframer.feed(data)
        return messages.decode(payload)

    def _read(self) -> bytes:
        if not self.owned:
            _exit(0)
        try:
            return _read(self._inbox, 65536)
        except OSError as error:
            _leave_if_closed(error)
            raise

    def expect(self, kind: type[M]) -> M | None:
        """The next message, which must be a `kind`; None at end of file.

        Raises ProtocolError for another.
        """
        received = self.receive()
        if received is None or isinstance(received, kind):
            return received
        raise ProtocolError(f"expected {kind.__name__}, received {received.kind}")

    def fileno(self) -> int:
        return self._inbox

    @property
    def descriptors(self) -> tuple[int, int]:
        """Those that it reads and writes."""
        return self._inbox, self._outbox

    def close(self) -> None:
        for fd in (self._inbox, self._outbox):
            with contextlib.suppress(OSError):
                _close(fd)
        self._inbox = self._outbox = -1


def _leave_if_closed(error: OSError) -> None:
    if error.errno == errno.EBADF:
        _exit(CHANNEL_CLOSED)
