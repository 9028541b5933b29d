"""Length-prefixed frames on a byte stream, without I/O.

A frame is four bytes of length, big-endian, and as many bytes of payload.
"""

from __future__ import annotations

import struct

from dct_celery.errors import ProtocolError

_HEADER = struct.Struct(">I")
#: Maximum size of a frame in bytes; a larger one is garbage (a test wrote into our descriptor).
MAX_FRAME = 64 * 1024 * 1024


def frame(payload: bytes) -> bytes:
    """The payload with its length in front."""
    return _HEADER.pack(len(payload)) + payload


class Deframer:
    """Turns bytes, however they were split, into payloads."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """The next payload; None until more bytes are fed. Raises ProtocolError for an impossible
        length.
        """
        if len(self._buffer) < _HEADER.size:
            return None
        (length,) = _HEADER.unpack_from(self._buffer)
        if length > MAX_FRAME:
            raise ProtocolError(
                f"a frame of {length} bytes cannot be ours", bytes(self._buffer[:256])
            )
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return payload
