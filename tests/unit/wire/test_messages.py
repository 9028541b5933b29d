"""Claims about `wire.messages`: every kind survives the wire, and nothing else is taken for a message."""

from __future__ import annotations

import json
import typing
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dct_celery.errors import ProtocolError
from dct_celery.wire import messages
from dct_celery.wire.framing import Deframer, frame
from dct_celery.wire.messages import Message, TestFinished, TestStarted, decode

KINDS = sorted(messages._KINDS.values(), key=lambda kind: kind.__name__)
# Whatever a Python string may hold, lone surrogates included.
TEXT = st.text(st.characters(), max_size=20)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=3
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    str | None: st.none() | TEXT.filter(bool),  # an empty one and none are the same to everybody
    int: st.integers(),
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    list[str]: st.lists(TEXT, max_size=4),
    list[int]: st.lists(st.integers()),
    list[float]: st.lists(st.floats(allow_nan=False)),
    list[dict[str, str]]: st.lists(st.dictionaries(TEXT, TEXT), max_size=3),
    dict[str, str]: st.dictionaries(TEXT, TEXT),
    dict[str, int]: st.dictionaries(TEXT, st.integers()),
    dict[str, float]: st.dictionaries(TEXT, st.floats(allow_nan=False)),
    list[dict[str, Any]]: st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=3),
}


def of(kind: type[Message]) -> st.SearchStrategy[Message]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: VALUES[hints[field.name]] for field in fields(kind)})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_survives_the_wire(kind: type[Message]) -> None:
    @settings(max_examples=30)
    @given(of(kind))
    def check(message: Message) -> None:
        # When
        (payload,) = Deframer().feed(frame(message.encode()))
        # Then
        assert decode(payload) == message
        assert payload.isascii()
        assert b"\n" not in payload

    check()


def test_the_kind_on_the_wire_is_the_name_of_the_class() -> None:
    assert {json.loads(TestStarted(3).encode())["kind"]} == {"TestStarted"}
    assert {kind.kind for kind in KINDS} == {kind.__name__ for kind in KINDS}


def test_fields_with_a_default_may_be_missing() -> None:
    assert decode(b'{"kind":"TestFinished","index":1,"outcome":"passed","seconds":0.5}') == TestFinished(1, "passed", 0.5)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"3",
        b"{}",
        b'{"kind":"Nonsense"}',
        b'{"kind":["TestStarted"]}',
        b'{"kind":"TestStarted"}',
        b'{"kind":"TestStarted","index":1,"more":2}',
        b'{"kind":"TestStarted","index":1}{',
        b"[" * 200_000,
    ],
    ids=lambda payload: repr(payload[:60]),
)
def test_anything_else_is_a_protocol_error_with_the_raw_bytes(payload: bytes) -> None:
    # When
    with pytest.raises(ProtocolError, match=r"^not a message of protocol") as caught:
        decode(payload)
    # Then
    assert caught.value.data == payload[:4096]


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise_anything_else(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(payload)
