"""Claims about `wire.framing`: however the bytes were cut, the same payloads come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.errors import ProtocolError
from dct_celery.wire.framing import MAX_FRAME, Deframer, frame

PAYLOADS = st.lists(st.binary(max_size=300), max_size=8)


def fed(deframer: Deframer, data: bytes) -> list[bytes]:
    """The payloads that `data` completes."""
    deframer.feed(data)
    return list(iter(deframer.next, None))


@given(PAYLOADS, st.data())
def test_any_cut_of_the_bytes_gives_the_same_payloads(
    payloads: list[bytes], data: st.DataObject
) -> None:
    # Given
    stream = b"".join(frame(payload) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    deframer = Deframer()
    # When
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += fed(deframer, stream[start:end])
    # Then
    assert found == payloads


@given(PAYLOADS)
def test_byte_by_byte_gives_the_same_payloads(payloads: list[bytes]) -> None:
    # Given
    deframer = Deframer()
    stream = b"".join(frame(payload) for payload in payloads)
    # When
    found = [
        payload
        for number in range(len(stream))
        for payload in fed(deframer, stream[number : number + 1])
    ]
    # Then
    assert found == payloads


@given(st.binary(min_size=1), st.data())
def test_a_frame_that_was_cut_off_waits_for_its_rest(payload: bytes, data: st.DataObject) -> None:
    # Given
    whole = frame(payload)
    end = data.draw(st.integers(1, len(whole) - 1))
    deframer = Deframer()
    # When
    found = fed(deframer, whole[:end])
    # Then
    assert found == []
    assert fed(deframer, whole[end:]) == [payload]


def test_a_frame_of_the_largest_size_is_waited_for() -> None:
    # Given
    deframer = Deframer()
    # When
    found = fed(deframer, MAX_FRAME.to_bytes(4, "big"))
    # Then
    assert found == []


def test_what_a_test_wrote_into_our_descriptor_is_a_protocol_error_with_the_bytes() -> None:
    # Given
    garbage = b"Traceback (most recent call last):\n"
    # When
    with pytest.raises(ProtocolError) as caught:
        fed(Deframer(), garbage)
    # Then
    assert caught.value.data == garbage
    assert caught.value.exit_code == 7


def test_of_much_garbage_only_the_beginning_is_kept() -> None:
    # When
    with pytest.raises(ProtocolError) as caught:
        fed(Deframer(), b"x" * 100_000)
    # Then
    assert caught.value.data == b"x" * 256


def test_what_came_before_garbage_is_handed_out_first() -> None:
    # Given
    deframer = Deframer()
    # When both come at once
    deframer.feed(frame(b"started") + b"\xff" * 64)
    # Then
    assert deframer.next() == b"started"
    with pytest.raises(ProtocolError):
        deframer.next()
