"""What an attacker with the broker's password can put into queues.

It costs no worker, no verdict and no second line in a log.
"""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amqp
import pytest
import redis
from celery import Celery

from dct_celery.adapters.celeryqueue.inbound import LARGEST, TASK, body_of
from tests.support.fleet import Fleet, Worker, until
from tests.support.projects import make_project, sleeping

GOOD = {
    "body": base64.b64encode(body_of("unsigned")).decode(),
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": {"task": TASK, "id": "a-1"},
    "properties": {
        "delivery_tag": "t",
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "x"},
    },
}


def changed(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


def body(value: object) -> bytes:
    return changed(body=base64.b64encode(json.dumps(value).encode()).decode())


ENTRIES = [
    b"garbage",
    b"",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"\xff\x00\xfe",
    b"[" * 60_000,
    b"{" * 300_000,
    b"x" * 5 * LARGEST,
    b'{"body": NaN}',
    changed(properties=None),
    changed(properties=[]),
    changed(properties={}),
    changed(headers=None),
    changed(headers={"task": TASK}),
    changed(headers={"task": "celery.chord", "id": "a"}),
    changed(headers={"task": {}, "id": "a"}),
    changed(headers={"task": TASK, "id": "a", "compression": "gzip"}),
    changed(body="$"),
    changed(body=None),
    changed(body={}),
    changed(**{"content-type": "application/x-python-serialize"}),
    changed(**{"content-encoding": "nothing-known"}),
    body([]),
    body({"task": TASK, "id": "a"}),
    body([["a", "b"], {}, {}]),
    body([[], {"message": "a"}, {}]),
    body([[{"a": 1}], {}, {}]),
    changed(
        headers={"task": TASK, "id": "later", "eta": "2099-01-01T00:00:00", "expires": "never"}
    ),
    changed(),
]


#: Properties of a message of RabbitMQ that are no text, no known type, no time.
BROKEN = (
    b"\x80\x00\x01\xff",
    b"\x04\x00\x01\xff",
    b"\x80\x00\x02\xff\xfe",
    b"\x20\x00\x00\x00\x00\x03\x01aQ",
    b"\x20\x00\x00\x00\x00\x0b\x01aT" + b"\xff" * 8,
)


@pytest.fixture(params=["redis", "rabbitmq"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path, fleet_store: str) -> Iterator[Fleet]:
    """A fleet on either broker."""
    broker = request.getfixturevalue("rabbitmq_server").url if request.param == "rabbitmq" else ""
    with Fleet(tmp_path / "fleet", fleet_store, broker=broker) as fleet:
        yield fleet


def put_all(fleet: Fleet, queue: str) -> None:
    """Everything that an attacker may think of."""
    if not fleet.broker:
        with redis.Redis.from_url(fleet.store) as client:
            for entry in ENTRIES:
                client.lpush(f"dct:{queue}", entry)
        return
    with raw_rabbit(fleet.broker) as connection:
        channel: Any = connection.channel()
        messages = [amqp.Message(entry) for entry in ENTRIES]
        good = {
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "application_headers": {"task": TASK, "id": "a"},
        }
        messages += [
            amqp.Message(entry, **{**good, **change})
            for entry in (b"", b"[]", b"null", b"\xff", b"[" * 50_000, body_of("unsigned"))
            for change in (
                {},
                {"content_type": "application/x-python-serialize"},
                {"content_encoding": "unknown"},
                {"application_headers": {"task": "celery.chord", "id": "a"}},
                {"application_headers": {"task": TASK, "id": "a", "compression": "gzip"}},
                {"application_headers": {"task": TASK, "id": "a", "eta": "2099-01-01T00:00:00"}},
                {"application_headers": {"task": [1], "id": {"a": 1}}},
            )
        ]
        for message in messages:
            channel.basic_publish(message, routing_key=queue)
        # Through an exchange, the routing key is any bytes.
        channel.queue_bind(queue, "amq.fanout", "")
        publish_raw(channel, b"\xff\xfe", b"\x00\x00", exchange=b"amq.fanout")
    for properties in BROKEN:
        # RabbitMQ closes connections that send it some of these, but not all.
        with (
            contextlib.suppress(amqp.exceptions.ConnectionError, OSError),
            raw_rabbit(fleet.broker) as connection,
        ):
            publish_raw(connection.channel(), queue.encode(), properties)
            connection.drain_events(timeout=0.3)


def raw_rabbit(url: str) -> Any:
    user, _, rest = url.removeprefix("amqp://").partition(":")
    password, _, place = rest.partition("@")
    connection = amqp.Connection(place.rstrip("/"), user, password)
    connection.connect()
    return connection


def publish_raw(channel: Any, key: bytes, properties: bytes, *, exchange: bytes = b"") -> None:
    """Basic.Publish with these very bytes; properties begin with their flags."""

    def short(text: bytes) -> bytes:
        return struct.pack(">B", len(text)) + text

    method = struct.pack(">HHH", 60, 40, 0) + short(exchange) + short(key) + b"\x00"
    header = struct.pack(">HHQ", 60, 0, 1) + properties
    frames = [(1, method), (2, header), (3, b"x")]
    channel.connection.transport.write(
        b"".join(
            struct.pack(">BHI", kind, channel.channel_id, len(data)) + data + b"\xce"
            for kind, data in frames
        )
    )


def log_lines(worker: Worker, words: str) -> list[str]:
    return [line for line in worker.log.read_text(errors="replace").splitlines() if words in line]


def wait_until_taken(fleet: Fleet, queue: str) -> None:
    def empty() -> bool:
        if not fleet.broker:
            with redis.Redis.from_url(fleet.store) as client:
                return client.llen(f"dct:{queue}") == 0
        with raw_rabbit(fleet.broker) as connection:
            return connection.channel().queue_declare(queue, passive=True).message_count == 0

    until(empty, 30, what="an empty queue")


def test_no_message_ends_a_worker_or_a_run_and_each_kind_is_named_once(
    hostile: Fleet, place: Path
) -> None:
    # Given
    worker = hostile.worker(slots=2)
    pool = f"dct.pool.{hostile.name}"
    # When: before the run, and into its own queue while it is going on
    put_all(hostile, pool)
    wait_until_taken(hostile, pool)
    running = hostile.start(make_project(place, sleeping(6, 2, 0.3)), "--chunk-seconds", "0.5")
    until(lambda: log_lines(worker, "Started consuming from"), 20, what="the run's queue")
    put_all(hostile, f"dct.run.{running.run}")
    finished = running.finish()
    # Then
    assert finished.code == 0, finished
    assert list(finished.outcomes().values()) == ["passed"] * 12
    assert worker.process.poll() is None
    text = worker.log.read_text(errors="replace")
    assert "Unrecoverable" not in text
    assert "onnection to broker lost" not in text
    assert "Traceback" not in text
    named = [
        line.partition("ignored")[2]
        for line in log_lines(worker, f"{pool}' is ignored")
        if "so far" not in line
    ]
    assert len(named) == len(set(named)) >= 6
    assert max(map(len, text.splitlines())) < 2000, "no body in the log"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("shutdown", {}),
        ("pool_shrink", {"n": 1}),
        ("pool_restart", {"modules": ["os"]}),
        ("cancel_consumer", {"queue": "dct.pool.x"}),
        ("rate_limit", {"task_name": TASK, "rate_limit": "1/h"}),
        ("time_limit", {"task_name": TASK, "soft": 1, "hard": 1}),
        ("revoke", {"task_id": "a-1", "terminate": True}),
    ],
)
def test_no_one_controls_a_worker_through_the_broker(
    busy_fleet: Fleet, name: str, arguments: dict[str, Any]
) -> None:
    (worker,) = busy_fleet.workers
    app = Celery(broker=busy_fleet.store, broker_transport_options={"global_keyprefix": "dct:"})
    # Then
    assert app.control.broadcast("ping", reply=True, timeout=1.0) == []
    # When
    app.control.broadcast(name, arguments=arguments)
    time.sleep(0.3)
    # Then
    assert worker.process.poll() is None
    assert "shutdown" not in worker.log.read_text().lower()
    app.close()


def test_a_queue_that_is_no_list_costs_no_worker_and_no_other_queue(
    fleet: Fleet, place: Path
) -> None:
    # Given
    worker = fleet.worker()
    key = f"dct:dct.pool.{fleet.name}"
    # When
    with redis.Redis.from_url(fleet.store) as client:
        client.set(key, "no list", ex=60)
        finished = fleet.run(make_project(place, sleeping(2, 2, 0.1)))
    # Then
    assert finished.code == 0, finished
    assert worker.process.poll() is None
    assert "Unrecoverable" not in worker.log.read_text()
