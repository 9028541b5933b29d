"""The head of a run: all that `dct attach` needs beside its events, as one text in the store.

`dispatcher.run_snapshot` says what is in it. A worker whose suite differs reads the manifest there.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from dct_celery.core.model import Entry
from dct_celery.errors import InfrastructureError
from dct_celery.protocol.door import Door, parse

#: The kind under which it is signed.
KIND = "RunSnapshot"
#: Most bytes of a head: enough for some 300,000 tests.
_LIMIT = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """The part of a head that others than dispatchers read."""

    entries: tuple[Entry, ...]

    @classmethod
    def read(cls, data: bytes, door: Door) -> Head:
        """Raises Untrusted, InfrastructureError."""
        return parse(cls, door.unseal_text(KIND, expand(data)), lenient=True)


def compress(text: str) -> bytes:
    # Level 1: the head is written while slots wait for their first chunk.
    return zlib.compress(text.encode(), 1)


def expand(data: bytes) -> str:
    """Raises InfrastructureError for what `compress` did not make."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, _LIMIT).decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise InfrastructureError("the head of the run in the store cannot be read") from error
    if not stream.eof:
        raise InfrastructureError(
            "the head of the run in the store is longer than any head, or was cut"
        )
    return text
