"""Claims about `wire.messages`: every kind survives encoding, and nothing else is a message."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dct_celery.core.codec import MAX_INT, AtLeast, Matches
from dct_celery.core.metrics import MEASURED
from dct_celery.core.model import FixturePhase, FixtureRef, FixtureScope, Outcome
from dct_celery.errors import ProtocolError
from dct_celery.wire import messages
from dct_celery.wire.framing import Deframer, frame
from dct_celery.wire.messages import Message, TestFinished, TestStarted, decode

KINDS = sorted(messages._KINDS.values(), key=lambda kind: kind.__name__)
# Whatever a Python string may hold, lone surrogates included.
TEXT = st.text(st.characters(), max_size=20)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(-MAX_INT, MAX_INT),
    bool: st.booleans(),
    float: st.floats(-MAX_INT, MAX_INT),
    type(None): st.none(),
    Any: JSON,
    FixtureRef: st.builds(
        FixtureRef, st.sampled_from(FixturePhase), st.sampled_from(FixtureScope), TEXT
    ),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """All that a field of this type may have."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        match arguments[1]:
            case Matches(pattern):
                return st.from_regex(pattern, fullmatch=True)
            case AtLeast(least):
                return values(arguments[0]).map(lambda number: max(number, type(number)(least)))
            case _:  # AtMost: what is made here is shorter
                return values(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(one) for one in arguments])
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[1:] != (...,):
        return st.tuples(*map(values, arguments))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(TEXT, values(arguments[1]), max_size=3)
    if hint in PLAIN:
        return PLAIN[hint]
    return st.sampled_from(hint) if issubclass(hint, Enum) else of(hint)


def of(kind: Any) -> st.SearchStrategy[Any]:
    assert isinstance(kind, type)
    assert is_dataclass(kind)
    hints = typing.get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{field.name: values(hints[field.name]) for field in fields(kind)})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_survives_the_wire(kind: type[Message]) -> None:
    @settings(max_examples=30, deadline=None)
    @given(of(kind))
    def check(message: Message) -> None:
        # When
        deframer = Deframer()
        deframer.feed(frame(message.encode()))
        payload = deframer.next()
        # Then
        assert payload is not None
        assert decode(payload) == message
        assert payload.isascii()
        assert b"\n" not in payload

    check()


def test_the_kind_on_the_wire_is_the_name_of_the_class() -> None:
    assert {json.loads(TestStarted(3).encode())["kind"]} == {"TestStarted"}
    assert {kind.kind for kind in KINDS} == {kind.__name__ for kind in KINDS}


def test_fields_with_a_default_may_be_missing() -> None:
    payload = b'{"kind":"TestFinished","index":1,"outcome":"passed","seconds":0.5}'
    assert decode(payload) == TestFinished(1, Outcome.PASSED, 0.5)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"kind":"TestStarted","index":01}',
        b'{"kind":"TestStarted","index":-1}',
        b'{"kind":"TestStarted","index":1}x',
        b'{"kind":"TestFinished","index":00,"outcome":"passed","seconds":0.100000}',
        b'{"kind":"TestFinished","index":1,"outcome":"passed","seconds":00.100000}',
        b'{"kind":"TestFinished","index":1,"outcome":"passed","seconds":-0.100000}',
        b'{"kind":"TestFinished","index":1,"outcome":"passed","seconds":9999999999999999.100000}',
        b'{"kind":"TestFinished","index":9999999999999999,"outcome":"passed","seconds":0.100000}',
        b'{"kind":"TestFinished","index":1,"outcome":"passed","seconds":0.100000}\n',
        b'{"kind":"TestFinished",\n"index":1,"outcome":"passed","seconds":0.5}',
        b'{"kind":"TestFinished",\r"index":1,"outcome":"passed","seconds":0.5}',
    ],
)
def test_what_only_looks_like_the_record_of_a_pass_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(payload)


@given(st.integers(0, 10**9), st.floats(0, 1e6), st.from_regex(MEASURED, fullmatch=True))
def test_what_is_written_on_the_fast_path_is_the_same_message(
    index: int, seconds: float, measured: str
) -> None:
    assert decode(messages.started(index)) == TestStarted(index)
    assert decode(messages.passed(index, seconds)) == TestFinished(
        index, Outcome.PASSED, float(f"{seconds:.6f}")
    )
    assert decode(messages.passed(index, seconds, measured)) == TestFinished(
        index, Outcome.PASSED, float(f"{seconds:.6f}"), measured=measured
    )


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
        b'{"kind":"Entries","last":true,"entries":[{"line":NaN}]}',
        b'{"kind":"Entries","last":true,"entries":[{"line":-Infinity}]}',
        b"[" * 200_000,
        b'{"kind":"Entries","last":true,"entries":' + b"[" * 200_000,
    ],
    ids=lambda payload: repr(payload[:60]),
)
def test_anything_else_is_a_protocol_error_with_the_raw_bytes(payload: bytes) -> None:
    # When
    with pytest.raises(ProtocolError, match=r"^not a message of ours") as caught:
        decode(payload)
    # Then
    assert caught.value.data == payload[:4096]


#: By kind, the fields of a message that is one.
RIGHT: dict[str, dict[str, Any]] = {
    "TestStarted": {"index": 1},
    "TestFinished": {"index": 1, "outcome": "passed", "seconds": 0.1},
    "FixtureStarted": {},
    "FixtureFinished": {"fixture": "setUpClass (a.T)", "outcome": "error"},
    "ChunkFinished": {"chunk": "c1", "records": 1, "class_seconds": {}},
}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("TestStarted", {"index": -1}),
        ("TestStarted", {"index": True}),
        ("TestStarted", {"index": "1"}),
        ("TestStarted", {"index": 1.0}),
        ("TestStarted", {"index": 2**60}),
        ("TestStarted", {"index": None}),
        ("TestFinished", {"outcome": "lovely"}),
        ("TestFinished", {"outcome": ["passed"]}),
        ("TestFinished", {"seconds": -0.1}),
        ("TestFinished", {"seconds": float("nan")}),
        ("TestFinished", {"seconds": float("inf")}),
        ("TestFinished", {"seconds": 1e300}),
        ("TestFinished", {"seconds": "0.1"}),
        ("TestFinished", {"output": None}),
        ("TestFinished", {"output": {"a": 1}}),
        ("TestFinished", {"failures": {}}),
        ("TestFinished", {"failures": [{}]}),
        ("TestFinished", {"failures": [{"kind": "error", "type": "E", "message": "m", "text": 3}]}),
        ("TestFinished", {"covered_by": "setUp everything"}),
        ("TestFinished", {"covered_by": 3}),
        ("FixtureStarted", {"fixture": ["setUpClass (a.T)"]}),
        ("FixtureFinished", {"fixture": "setUpClass"}),
        ("ChunkFinished", {"records": -1}),
        ("ChunkFinished", {"left": [0, "1"]}),
        ("ChunkFinished", {"left": 3}),
        ("ChunkFinished", {"stopped": "bored"}),
        ("ChunkFinished", {"class_seconds": [["a.T", 1]]}),
        ("ChunkFinished", {"class_seconds": {"a.T": "1"}}),
        ("ChunkFinished", {"leaks": [{"kind": "secret", "what": "x"}]}),
        ("ChunkFinished", {"leaks": [{"kind": "port", "what": "x", "first": -1}]}),
        ("ChunkFinished", {"began": [None]}),
    ],
    ids=str,
)
def test_a_field_of_another_type_is_a_protocol_error(kind: str, wrong: dict[str, Any]) -> None:
    # Given a message that would be one
    right = RIGHT[kind]
    decode(json.dumps({"kind": kind, **right}).encode())
    # Then
    with pytest.raises(ProtocolError):
        decode(json.dumps({"kind": kind, **right, **wrong}).encode())


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise_anything_else(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(payload)


def assert_message_or_protocol_error(payload: bytes) -> None:
    try:
        message = decode(payload)
    except ProtocolError:
        return
    assert isinstance(message, Message)
    assert decode(message.encode()) == message


@settings(deadline=None)
@given(st.data())
def test_no_json_makes_it_raise_anything_else(data: st.DataObject) -> None:
    # Given an object with fields of a message, whatever they hold
    kind = data.draw(st.sampled_from(KINDS))
    names = st.sampled_from([field.name for field in fields(kind)]) if fields(kind) else TEXT
    row = data.draw(st.dictionaries(names | TEXT, JSON))
    # Then
    assert_message_or_protocol_error(json.dumps({"kind": kind.kind, **row}).encode())


@settings(deadline=None)
@given(st.data())
def test_a_message_with_one_field_spoilt_is_a_message_or_a_protocol_error(
    data: st.DataObject,
) -> None:
    # Given
    kind = data.draw(st.sampled_from([kind for kind in KINDS if fields(kind)]))
    row = json.loads(data.draw(of(kind)).encode())
    # When
    row[data.draw(st.sampled_from([field.name for field in fields(kind)]))] = data.draw(JSON)
    # Then
    assert_message_or_protocol_error(json.dumps(row).encode())


@settings(deadline=None)
@given(st.data())
def test_a_message_that_was_damaged_on_its_way_is_a_message_or_a_protocol_error(
    data: st.DataObject,
) -> None:
    # Given
    payload = bytearray(data.draw(of(data.draw(st.sampled_from(KINDS)))).encode())
    # When
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    # Then
    assert_message_or_protocol_error(bytes(payload[: data.draw(st.integers(1, len(payload)))]))
