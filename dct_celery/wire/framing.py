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

    def feed(self, data: bytes) -> list[bytes]:
        """All payloads completed by `data`.

        Raises ProtocolError for an impossible length, once the payloads before it have been
        returned.
        """
        self._buffer += data
        payloads: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer, start)
            if length > MAX_FRAME:
                if payloads:
                    break
                raise ProtocolError(
                    f"a frame of {length} bytes cannot be ours", bytes(self._buffer[:256])
                )
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            payloads.append(bytes(self._buffer[start + _HEADER.size : end]))
            start = end
        del self._buffer[:start]
        return payloads
