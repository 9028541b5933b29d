"""What the queue port promises, on either broker."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from dct_celery.adapters.celeryqueue import names
from dct_celery.adapters.celeryqueue.app import make_app
from dct_celery.adapters.celeryqueue.queue import CeleryChunkQueue, hand_on
from dct_celery.core.databases.names import queue_name
from dct_celery.errors import BrokerRefused, BrokerUnavailable
from dct_celery.protocol.runs import ChunkHint
from dct_celery.settings import Settings
from tests.support.factories import run_door
from tests.support.fleet import until, unused_port
from tests.support.rabbitmq import EmbeddedRabbitMQ

DOOR = run_door()


def hint(chunk: str = "c1") -> str:
    """A message, sealed."""
    return DOOR.seal(ChunkHint("run-one", chunk, 1))


@pytest.fixture(params=["redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "rabbitmq":
        return str(request.getfixturevalue("rabbitmq_server").url)
    return f"{request.getfixturevalue('valkey_url').rpartition('/')[0]}/6"


class Scene:
    """One run's queue from both ends."""

    def __init__(self, url: str) -> None:
        self.run = f"run-{secrets.token_hex(4)}"
        self.app = make_app(Settings(broker=url))
        self.queue = CeleryChunkQueue(self.app, self.run, "--broker")
        self._amqp = names.is_amqp(url)

    def waiting(self) -> int | None:
        """Messages in the queue; None where there is no queue. Redis has no empty lists."""
        with self.app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            if not self._amqp:
                return int(channel.client.llen(queue_name(self.run))) or None
            with contextlib.suppress(*connection.channel_errors):
                return int(channel.queue_declare(queue_name(self.run), passive=True).message_count)
        return None

    def forget(self) -> None:
        with self.app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            (channel.queue_delete if self._amqp else channel.queue_purge)(queue_name(self.run))

    def take(self) -> ChunkHint:
        """The text of one message, opened."""
        with self.app.connection_for_read() as connection:
            message = names.run_queue(self.run, amqp=self._amqp)(connection.default_channel).get(
                no_ack=True
            )
            assert message is not None, "the queue is empty"
            (text,), _, _ = message.decode()
        return DOOR.unseal(ChunkHint, text)


@pytest.fixture
def scene(url: str) -> Iterator[Scene]:
    scene = Scene(url)
    yield scene
    scene.queue.purge()


def published(scene: Scene, count: int = 1) -> Callable[[], bool]:
    return lambda: scene.waiting() == count


def test_what_is_published_waits_signed_in_the_queue(scene: Scene) -> None:
    # When
    scene.queue.check()
    scene.queue.publish(hint())
    scene.queue.publish(hint("c2"))
    # Then
    until(published(scene, 2), 5, what="two messages")
    assert [scene.take().chunk, scene.take().chunk] == ["c1", "c2"]


def test_several_messages_go_out_in_one_go_and_wait_in_order(scene: Scene) -> None:
    # When
    scene.queue.publish(*(hint(f"c{number}") for number in range(1, 4)))
    # Then
    until(published(scene, 3), 5, what="three messages")
    assert [scene.take().chunk for _ in range(3)] == ["c1", "c2", "c3"]


def test_messages_to_redis_take_one_round_trip_however_many_they_are(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a connection
    scene = Scene(f"{valkey_url.rpartition('/')[0]}/6")
    scene.queue.publish(hint())
    sent: list[object] = []
    send = redis.Connection.send_packed_command

    def counted(connection: redis.Connection, command: object, check_health: bool = True) -> None:
        sent.append(command)
        send(connection, command, check_health)

    monkeypatch.setattr(redis.Connection, "send_packed_command", counted)
    # When
    scene.queue.publish(*(hint(f"c{number}") for number in range(50)))
    # Then
    assert len(sent) == 1
    scene.queue.purge()


def test_a_connection_that_the_broker_closed_meanwhile_costs_no_message(
    rabbitmq_server: EmbeddedRabbitMQ,
) -> None:
    # Given
    scene = Scene(rabbitmq_server.url)
    scene.queue.publish(hint())
    # When
    rabbitmq_server.ctl("close_all_connections", "test")
    scene.queue.publish(hint())
    # Then
    until(published(scene, 2), 5, what="two messages")
    scene.queue.purge()


def test_a_purge_leaves_no_queue_and_may_come_twice_and_before_a_message(scene: Scene) -> None:
    # Given
    scene.queue.purge()
    scene.queue.publish(hint())
    until(published(scene), 5, what="a message")
    # When
    scene.queue.purge()
    scene.queue.purge()
    # Then
    assert scene.waiting() is None


def test_a_queue_that_the_broker_has_forgotten_is_there_again_with_the_next_message(
    scene: Scene,
) -> None:
    # Given
    scene.queue.publish(hint())
    until(published(scene), 5, what="a message")
    scene.forget()
    # When
    scene.queue.publish(hint())
    # Then
    until(published(scene), 5, what="a message")


def test_the_broker_forgets_an_unused_queue(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    for module in ("names", "queue"):
        monkeypatch.setattr(f"dct_celery.adapters.celeryqueue.{module}.FORGOTTEN", 1)
    scene = Scene(url)
    scene.queue.publish(hint())
    # When: reading it would be a use
    time.sleep(2.5)
    # Then
    assert scene.waiting() is None
    scene.queue.purge()


def test_a_broker_that_went_away_is_named_and_the_next_message_goes_through_when_it_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    scene.queue.publish(hint())
    producer: Any = scene.queue._producer
    monkeypatch.setattr(
        type(producer), "publish", lambda *a, **k: _raise(ConnectionResetError("gone"))
    )
    # When
    with pytest.raises(
        BrokerUnavailable, match=r"\(--broker\) cannot be used: gone; start it or set --broker"
    ):
        scene.queue.publish(hint())
    monkeypatch.undo()
    scene.queue.publish(hint())
    # Then: on a new connection
    assert scene.queue._producer is not producer
    until(published(scene, 2), 5, what="two messages")


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_not_there_is_named_without_its_password(scheme: str) -> None:
    queue = Scene(f"{scheme}://user:hush@127.0.0.1:{unused_port()}/0").queue
    # When
    with pytest.raises(BrokerUnavailable) as caught:
        queue.check()
    # Then
    assert "hush" not in str(caught.value)
    assert str(caught.value).endswith("start it or set --broker")


def test_a_wrong_password_has_its_own_fix(url: str) -> None:
    scheme, _, rest = url.partition("://")
    queue = Scene(f"{scheme}://dct:wrong@{rest.rpartition('@')[2]}").queue
    # Then
    with pytest.raises(BrokerRefused, match="check user and password in its URL"):
        queue.check()


def _raise(error: Exception) -> None:
    raise error


def test_a_round_trip_returns_the_text_and_the_version_where_there_is_one(scene: Scene) -> None:
    # When
    version = scene.queue.round_trip("there and back", 5.0)
    # Then
    assert bool(version) == names.is_amqp(scene.app.conf.broker_url)
    until(lambda: not scene.waiting(), 5, what="an empty queue")


def test_what_a_slot_hands_on_waits_for_another_one(scene: Scene) -> None:
    # When
    hand_on(scene.app, scene.run, hint())
    # Then
    until(published(scene), 5, what="a message")
    assert scene.take().chunk == "c1"
