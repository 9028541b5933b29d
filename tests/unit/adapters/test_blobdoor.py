"""The one door for blobs.

Whatever lies in the store, what comes out is what was asked for, or nothing.
"""

from __future__ import annotations

import zlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dct_celery.adapters.redisstore.blobs import RedisBlobs, _longest, _unpacked
from dct_celery.core.ids import digest_of

_PACKED = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(zlib.compress),
    st.tuples(
        st.binary(max_size=200).map(zlib.compress), st.integers(0, 40), st.binary(max_size=9)
    ).map(lambda t: t[0][: t[1]] + t[2]),
    st.integers(0, 100_000).map(lambda size: zlib.compress(bytes(size))),
)


class Client:
    """A Redis with one value under every key; notes what is dropped."""

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.dropped: list[bytes] = []
        self._asked = 0

    def register_script(self, source: str) -> Any:
        return lambda keys, args: self.dropped.append(args[0])

    def pipeline(self, transaction: bool) -> Client:
        return self

    def getrange(self, key: str, start: int, end: int) -> None:
        self._asked = end

    def execute(self, raise_on_error: bool) -> list[bytes]:
        return [self.value[: self._asked + 1]]


@given(_PACKED, st.integers(0, 300))
def test_arbitrary_bytes_unpack_to_at_most_what_was_declared(packed: bytes, size: int) -> None:
    content = _unpacked(packed, size)
    assert content is None or len(content) <= size


@given(packed=_PACKED, content=st.binary(max_size=50), size=st.integers(0, 60))
def test_arbitrary_bytes_are_the_content_or_dropped(
    packed: bytes, content: bytes, size: int
) -> None:
    # Given
    client: Any = Client(packed)
    digest = digest_of(content)
    # When
    found = RedisBlobs(client).get({digest: size})
    # Then
    assert found in ({}, {digest: content})
    assert bool(client.dropped) == (packed != b"" and not found)


@given(st.binary(max_size=5000), st.integers(0, 9))
def test_every_content_fits_into_what_is_read_of_it(content: bytes, level: int) -> None:
    packed = zlib.compress(content, level)
    assert len(packed) <= _longest(len(content))
    assert _unpacked(packed, len(content)) == content
