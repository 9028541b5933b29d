"""Length-prefixed frames on a byte stream, without I/O: four bytes big-endian, then that many bytes
of payload.
"""

from __future__ import annotations

import struct

from dct_celery.errors import ProtocolError

_HEADER = struct.Struct(">I")
#: A frame larger than this is taken for garbage (a test wrote into our descriptor), in bytes.
MAX_FRAME = 64 * 1024 * 1024


def frame(payload: bytes) -> bytes:
    """The payload with its length in front."""
    return _HEADER.pack(len(payload)) + payload


class Deframer:
    """Turns chunks of bytes, however they were cut, into payloads."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """All payloads completed by `data`. Raises ProtocolError for an absurd length, once what
        came before it is handed out.
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
