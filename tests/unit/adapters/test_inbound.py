"""Claims about what a worker takes from the broker.

What is ours is kept, anything else is refused, nothing raises.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.basic_message import Message as AmqpMessage
from amqp.serialization import decode_properties_basic, loads
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.adapters.celeryqueue import inbound, transports

QUEUE = "dct.run.one"
HEADERS: dict[str, Any] = {"task": inbound.TASK, "id": "0a1b-2c"}
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.just("dct_celery.run_chunk"),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text() | st.sampled_from(["task", "id", "headers", "compression"]), inner
        )
    ),
    max_leaves=8,
)


def envelope(**changes: Any) -> bytes:
    """An entry of Redis as kombu writes it, with changes; None leaves the field out."""
    whole = {
        "body": base64.b64encode(inbound.body_of("signed")).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": HEADERS,
        "properties": {
            "delivery_tag": "t1",
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
        },
    }
    return json.dumps(
        {name: value for name, value in {**whole, **changes}.items() if value is not None}
    ).encode()


def taken(item: bytes) -> tuple[str, str]:
    """Id and text of an entry, by the way of a worker."""
    message = json.loads(inbound.envelope(item, QUEUE))
    body = base64.b64decode(message["body"])
    return inbound.admit(
        message["headers"], message.get("content-type"), message.get("content-encoding"), body
    )


def refusal(item: bytes) -> str:
    with pytest.raises(inbound.Unacceptable) as caught:
        taken(item)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestAdmission:
    def test_a_chunk_message_is_kept_with_its_id(self) -> None:
        assert taken(envelope()) == ("0a1b-2c", "signed")

    @pytest.mark.parametrize(
        ("item", "reason"),
        [
            (b"garbage", "not JSON"),
            (b"", "not JSON"),
            (b"[]", "not an object"),
            (b"null", "not an object"),
            (b"\xff\xfe\x00", "not JSON"),
            (b"[" * 50_000, "not JSON"),
            (b"9" * 5_000, "not JSON"),
            (b'"' + b"x" * inbound.LARGEST + b'"', "larger"),
            (envelope(properties=None), "no headers or properties"),
            (envelope(properties=[]), "no headers or properties"),
            (envelope(properties={"delivery_tag": 1}), "no delivery tag"),
            (envelope(properties={"delivery_tag": ""}), "no delivery tag"),
            (envelope(headers=None), "no headers"),
            (envelope(headers="task"), "no headers"),
            (envelope(body="$$$"), "not base64"),
            (envelope(body="e30"), "not base64"),
            (envelope(body=7), "no delivery tag or body"),
            (envelope(body=""), "not JSON"),
            (envelope(headers={**HEADERS, "compression": "application/x-bz2"}), "compressed"),
            (envelope(headers={**HEADERS, "task": "celery.chord"}), "no task of ours"),
            (envelope(headers={**HEADERS, "task": ["a"]}), "no task of ours"),
            (envelope(headers={**HEADERS, "id": None}), "no id"),
            (envelope(headers={**HEADERS, "id": "a\n::error::"}), "no id"),
            (envelope(**{"content-type": "application/x-python-serialize"}), "not JSON"),
            (envelope(**{"content-encoding": "utf-7"}), "not JSON"),
            *[
                (envelope(body=base64.b64encode(json.dumps(body).encode()).decode()), reason)
                for body, reason in [
                    ([], "arguments"),
                    ({}, "arguments"),
                    ([[1]], "arguments"),
                    ([["a", "b"]], "arguments"),
                    ([[{"__type__": "datetime", "__value__": "x"}]], "arguments"),
                    ([["a"], {"x": 1}], "keyword"),
                    ([["\ud800"]], "Unicode"),
                ]
            ],
        ],
    )
    def test_what_is_no_chunk_message_is_refused_with_a_short_reason(
        self, item: bytes, reason: str
    ) -> None:
        assert reason in refusal(item)

    def test_of_a_message_only_id_and_text_are_kept(self) -> None:
        # Given: a start next year, a callback, another name for the log
        message = SimpleNamespace(
            headers={
                **HEADERS,
                "eta": "2030-01-01",
                "timelimit": [1, 1],
                "shadow": "\x1b[2J",
                "stamps": {"a": 1},
            },
            content_type="application/json",
            content_encoding="utf-8",
            body=json.dumps([["signed"], {}, {"callbacks": [{"task": "celery.map"}]}]),
        )
        # When
        inbound.rewrite(message)
        # Then
        assert set(message.headers) == {
            "task",
            "id",
            "root_id",
            "lang",
            "argsrepr",
            "ignore_result",
        }
        assert json.loads(message.body) == [
            ["signed"],
            {},
            dict.fromkeys(("callbacks", "errbacks", "chain", "chord")),
        ]

    def test_an_entry_says_where_it_came_from_whatever_its_sender_wrote(self) -> None:
        properties = {
            "delivery_tag": "t",
            "delivery_info": {"exchange": "amq.fanout", "routing_key": "elsewhere"},
        }
        found = json.loads(inbound.envelope(envelope(properties=properties), QUEUE))
        assert found["properties"]["delivery_info"] == {"exchange": "", "routing_key": QUEUE}


class TestFuzz:
    @given(st.binary())
    def test_bytes_are_refused(self, item: bytes) -> None:
        assert refusal(item)

    @given(JUNK)
    def test_json_of_any_shape_is_refused(self, value: Any) -> None:
        assert refusal(json.dumps(value).encode())

    @given(
        st.sampled_from(["body", "content-type", "content-encoding", "headers", "properties"]), JUNK
    )
    def test_a_field_of_any_shape_ends_in_a_refusal_or_in_the_text(
        self, field: str, value: Any
    ) -> None:
        with contextlib.suppress(inbound.Unacceptable):
            assert taken(envelope(**{field: value}))[1] == "signed"

    @given(JUNK, JUNK, JUNK, JUNK | st.binary())
    def test_a_message_of_rabbitmq_of_any_shape_is_refused(
        self, headers: Any, kind: Any, encoding: Any, body: Any
    ) -> None:
        with pytest.raises(inbound.Unacceptable):
            inbound.admit(headers, kind, encoding, body)


class TestFrames:
    """RabbitMQ hands on what a sender wrote into properties and routing keys, byte by byte."""

    @given(st.binary(max_size=64))
    def test_properties_can_be_read_afterwards_whatever_they_were(self, properties: bytes) -> None:
        # When
        frame = transports._readable_properties(struct.pack(">HxxQ", 60, 7) + properties)
        # Then
        assert struct.unpack_from(">HxxQ", frame) == (60, 7)
        decode_properties_basic(frame, 12)

    @pytest.mark.parametrize(
        "broken", [b"\x80\x00\x02\xff\xfe", b"\x20\x00\x00\x00\x00\x03\x01aQ", b"\x20"]
    )
    def test_unreadable_properties_become_a_reason(self, broken: bytes) -> None:
        # When
        message: Any = AmqpMessage()
        message.inbound_header(
            transports._readable_properties(struct.pack(">HxxQ", 60, 7) + broken)
        )
        # Then
        with pytest.raises(inbound.Unacceptable, match="properties cannot be read"):
            inbound.admit(message.properties["application_headers"], None, None, b"")

    def test_a_compressed_body_is_not_unpacked(self) -> None:
        # Given
        packed: Any = AmqpMessage(b"", application_headers={**HEADERS, "compression": "gzip"})
        header = packed._serialize_properties()
        # When
        properties, _ = decode_properties_basic(
            transports._readable_properties(struct.pack(">HxxQ", 60, 7) + header), 12
        )
        # Then
        assert "compression" not in properties["application_headers"]
        with pytest.raises(inbound.Unacceptable, match="compressed"):
            inbound.admit(properties["application_headers"], None, None, b"")

    @given(st.binary(max_size=255), st.binary(max_size=255))
    def test_a_delivery_can_be_read_afterwards_and_keeps_its_tag(
        self, exchange: bytes, key: bytes
    ) -> None:
        # Given
        shorts = [struct.pack(">B", len(text)) + text for text in (b"None1", exchange, key)]
        frame = (
            struct.pack(">HH", 60, 60)
            + shorts[0]
            + struct.pack(">QB", 42, 0)
            + shorts[1]
            + shorts[2]
        )
        # When
        values, _ = loads("sLbss", transports._readable_delivery(frame), 4)
        # Then
        assert values[:3] == ["None1", 42, False]


class TestRefusals:
    def test_each_kind_is_named_once_and_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        # Given
        refusals = inbound.Refusals()
        # When
        with caplog.at_level(logging.WARNING):
            for _ in range(9):
                refusals.note(QUEUE, "it is not JSON")
            refusals.note(QUEUE, "it has no id")
        # Then
        assert [record.getMessage() for record in caplog.records] == [
            "a message in the queue 'dct.run.one' is ignored: it is not JSON",
            "a message in the queue 'dct.run.one' is ignored: it has no id",
        ]
        assert refusals.total == 10

    def test_a_flood_is_named_again_at_ten_times_as_many(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        refusals = inbound.Refusals()
        for _ in range(150):
            refusals.note(QUEUE, "it is not JSON")
        assert [record.getMessage().rpartition("(")[2] for record in caplog.records[1:]] == [
            "10 so far)",
            "100 so far)",
        ]

    def test_ever_new_queues_neither_fill_the_memory_nor_the_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        refusals = inbound.Refusals()
        for number in range(5000):
            refusals.note(f"q{number}", "it is not JSON")
        assert refusals.total == 5000
        assert len(caplog.records) < 1010
