"""What is said of a store or broker that cannot be used.

One line, soon, classified by whether a retry may help.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from dct_celery.adapters.celeryqueue.app import make_app
from dct_celery.adapters.celeryqueue.queue import CeleryChunkQueue
from dct_celery.adapters.redisstore import client
from dct_celery.errors import (
    BrokerRefused,
    BrokerUnavailable,
    DctError,
    StoreRefused,
    StoreUnavailable,
)
from dct_celery.settings import Settings
from tests.support import strange_servers
from tests.support.certificates import Certificates
from tests.support.fleet import until, unused_port
from tests.support.rabbitmq import EmbeddedRabbitMQ

#: Seconds: the limit, and what a busy machine adds.
SOON = 6.0 + 2.0


def check_store(url: str) -> None:
    with contextlib.closing(client.connect(url, retries=0)) as store:
        client.check(store, url, "DCT_STORE")


def check_broker(url: str) -> None:
    CeleryChunkQueue(make_app(Settings(broker=url)), "run-check", "DCT_BROKER").check()


CHECKS = {"store": check_store, "broker": check_broker}
REFUSED, AWAY = (StoreRefused, BrokerRefused), (StoreUnavailable, BrokerUnavailable)


def said(check: Callable[[str], None], url: str, kinds: tuple[type[DctError], ...]) -> str:
    start = time.monotonic()
    with pytest.raises(kinds) as caught:
        check(url)
    assert time.monotonic() - start < SOON
    text = str(caught.value)
    assert "\n" not in text
    assert "hush" not in text
    assert caught.value.exit_code == (4 if kinds is REFUSED else 7)
    return text


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def localhost(certificates: Certificates) -> tuple[str, str]:
    """A certificate for localhost by that name, and not by its address."""
    return certificates.signed("localhost", "DNS:localhost")


@pytest.fixture(scope="module")
def tls_redis(
    certificates: Certificates, localhost: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of a Redis that speaks TLS alone, and wants no certificate of its clients."""
    port, folder = unused_port(), tmp_path_factory.mktemp("redis-tls")
    command = [
        "redis-server",
        "--port",
        "0",
        "--tls-port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    command += [
        "--tls-cert-file",
        localhost[0],
        "--tls-key-file",
        localhost[1],
        "--tls-ca-cert-file",
        certificates.ca,
    ]
    with subprocess.Popen(
        [*command, "--tls-auth-clients", "no"], stdout=subprocess.DEVNULL
    ) as process:
        with redis.Redis(port=port, ssl=True, ssl_cert_reqs="none") as asked:
            until(lambda: _answers(asked), 20, what="Redis")
        yield port
        process.kill()


@pytest.fixture(scope="module")
def tls_rabbit(
    certificates: Certificates, localhost: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[EmbeddedRabbitMQ, int]]:
    """A RabbitMQ, and the port at which it speaks TLS."""
    port = unused_port()
    settings = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.cacertfile": certificates.ca,
        "ssl_options.certfile": localhost[0],
        "ssl_options.keyfile": localhost[1],
        "ssl_options.verify": "verify_none",
    }
    with EmbeddedRabbitMQ.start(tmp_path_factory.mktemp("rabbit-tls"), settings=settings) as server:
        yield server, port


def _answers(asked: redis.Redis) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(asked.ping())
    return False


# -- no server, or another one ------------------------------------------------------


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps"])
@pytest.mark.parametrize("kind", ["closed", "dropping", "silent", "unknown"])
def test_a_server_that_does_not_answer_may_answer_later(kind: str, scheme: str) -> None:
    with contextlib.ExitStack() as stack:
        port = (
            unused_port()
            if kind in ("closed", "unknown")
            else stack.enter_context(getattr(strange_servers, kind)())
        )
        host = "no-such-host.invalid" if kind == "unknown" else "127.0.0.1"
        for name, check in CHECKS.items():
            if name == "broker" or not scheme.startswith("amqp"):
                text = said(check, f"{scheme}://user:hush@{host}:{port}/0", AWAY)
                assert "start it" in text


@pytest.mark.parametrize("name", CHECKS)
def test_tls_at_a_plain_port_is_named(name: str, valkey_url: str) -> None:
    text = said(CHECKS[name], valkey_url.replace("redis://", "rediss://"), REFUSED)
    assert "does not speak TLS at this port; name its port for TLS, or write redis://" in text


@pytest.mark.parametrize("name", CHECKS)
def test_a_plain_url_of_a_tls_port_is_named(name: str, tls_redis: int) -> None:
    assert "speaks TLS; write rediss:// in its URL" in said(
        CHECKS[name], f"redis://127.0.0.1:{tls_redis}/0", REFUSED
    )


def test_the_same_of_rabbitmq(tls_rabbit: tuple[EmbeddedRabbitMQ, int]) -> None:
    server, port = tls_rabbit
    plain = server.url.replace("amqp://", "amqps://")
    assert "does not speak TLS at this port; name its port for TLS, or write amqp://" in said(
        check_broker, plain, REFUSED
    )
    assert "speaks TLS; write amqps://" in said(
        check_broker, f"amqp://user:hush@127.0.0.1:{port}//", REFUSED
    )


def test_a_server_of_another_kind_is_named(
    valkey_url: str, rabbitmq_server: EmbeddedRabbitMQ
) -> None:
    redis_place = valkey_url.rpartition("@")[2]
    rabbit_place = rabbitmq_server.url.rpartition("@")[2]
    assert "is Redis and not RabbitMQ" in said(check_broker, f"amqp://{redis_place}", REFUSED)
    assert "is RabbitMQ and not Redis" in said(
        check_store, f"redis://{rabbit_place.strip('/')}/0", REFUSED
    )
    assert "is RabbitMQ and not Redis" in said(
        check_broker, f"redis://{rabbit_place.strip('/')}/0", REFUSED
    )
    with strange_servers.answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert "is a web server and not Redis" in said(
            check_store, f"redis://127.0.0.1:{port}/0", REFUSED
        )
        assert "is a web server and not RabbitMQ" in said(
            check_broker, f"amqp://127.0.0.1:{port}//", REFUSED
        )


# -- passwords and rights --------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("user", ["", "nobody:hush@", ":hush@"])
def test_a_wrong_or_missing_password_is_named(name: str, user: str, valkey_url: str) -> None:
    place = valkey_url.rpartition("@")[2]
    assert "refuses the password" in said(CHECKS[name], f"redis://{user}{place}", REFUSED)


@pytest.mark.parametrize("name", CHECKS)
def test_a_database_that_does_not_exist_is_named(name: str, valkey_url: str) -> None:
    assert "has no database 999" in said(
        CHECKS[name], f"{valkey_url.rpartition('/')[0]}/999", REFUSED
    )


def test_rabbitmq_refuses_passwords_and_vhosts_for_good(rabbitmq_server: EmbeddedRabbitMQ) -> None:
    place = rabbitmq_server.url.rpartition("@")[2].strip("/")
    assert "refuses the password" in said(check_broker, f"amqp://dct:hush@{place}//", REFUSED)
    assert "refuses the vhost 'nowhere'" in said(
        check_broker, f"{rabbitmq_server.url.rstrip('/')}/nowhere", REFUSED
    )


def test_a_user_of_rabbitmq_without_rights_is_shown_the_missing_ones(
    rabbitmq_server: EmbeddedRabbitMQ,
) -> None:
    # Given
    rabbitmq_server.ctl("add_user", "guest-of-tests", "hush")
    place = rabbitmq_server.url.rpartition("@")[2].strip("/")
    url = f"amqp://guest-of-tests:hush@{place}//"
    # Then
    assert "refuses the vhost '/'" in said(check_broker, url, REFUSED)
    # When
    rabbitmq_server.ctl("set_permissions", "guest-of-tests", "", ".*", ".*")
    # Then
    assert "refuses a command that we need" in said(check_broker, url, REFUSED)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_a_socket_serves_as_store_and_broker(tmp_path: Path) -> None:
    # Given
    path = tmp_path / "redis.sock"
    command = [
        "redis-server",
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    with subprocess.Popen(
        [*command, "--requirepass", "word"], stdout=subprocess.DEVNULL
    ) as process:
        until(lambda: _listens(path), 20, what="the socket")
        # Then
        try:
            for url in (
                f"unix://:word@{path}?db=3",
                f"redis+socket://:word@{path}?virtual_host=3",
                f"unix://:word@{path}",
            ):
                check_store(url)
                check_broker(url)
                queue = CeleryChunkQueue(make_app(Settings(broker=url)), "run-socket", "DCT_BROKER")
                queue.publish("a")
                queue.purge()
            for check in CHECKS.values():
                assert "refuses the password" in said(check, f"unix://:hush@{path}", REFUSED)
        finally:
            process.kill()
    for check in CHECKS.values():
        assert "start it" in said(check, f"unix://:hush@{tmp_path}/none.sock", AWAY)


# -- TLS ---------------------------------------------------------------------------------


def tls_urls(place: str, query: str = "") -> list[tuple[Callable[[str], None], str]]:
    return [
        (check_store, f"rediss://:hush@{place}/0{query}"),
        (check_broker, f"rediss://:hush@{place}/0{query}"),
        (check_broker, f"amqps://user:hush@{place}//{query}"),
    ]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("elsewhere", "name it by a name in its certificate"),
        ("expired", "renew its certificate"),
        ("self-signed", "name its CA with ?ssl_ca_certs=FILE in its URL, or with SSL_CERT_FILE"),
    ],
)
def test_a_certificate_that_proves_nothing_is_refused_before_the_password_is_sent(
    certificates: Certificates, kind: str, reason: str
) -> None:
    # Given
    pair = {
        "elsewhere": lambda: certificates.signed("elsewhere", "DNS:elsewhere.example"),
        "expired": lambda: certificates.signed("expired", "DNS:localhost", days=-1),
        "self-signed": lambda: certificates.self_signed("selfmade", "DNS:localhost"),
    }[kind]()
    with strange_servers.trusted_by(pair) as port:
        for check, url in tls_urls(f"localhost:{port}", f"?ssl_ca_certs={certificates.ca}"):
            text = said(check, url, REFUSED)
            assert "is not trusted" in text
            assert reason in text


def test_redis_with_tls_is_trusted_by_name_and_chain(
    certificates: Certificates, tls_redis: int
) -> None:
    for check in CHECKS.values():
        check(f"rediss://localhost:{tls_redis}/0?ssl_ca_certs={certificates.ca}")
        assert "by a name in its certificate" in said(
            check, f"rediss://127.0.0.1:{tls_redis}/0?ssl_ca_certs={certificates.ca}", REFUSED
        )
        assert "name its CA" in said(check, f"rediss://localhost:{tls_redis}/0", REFUSED)


def test_rabbitmq_with_tls_is_trusted_by_name_and_chain(
    certificates: Certificates, tls_rabbit: tuple[EmbeddedRabbitMQ, int]
) -> None:
    server, port = tls_rabbit
    login = server.url.rpartition("@")[0].replace("amqp://", "amqps://")
    check_broker(f"{login}@localhost:{port}//?ssl_ca_certs={certificates.ca}")
    text = said(check_broker, f"{login}@127.0.0.1:{port}//?ssl_ca_certs={certificates.ca}", REFUSED)
    assert "by a name in its certificate" in text
    assert server.password not in text
    assert "name its CA" in said(check_broker, f"{login}@localhost:{port}//", REFUSED)


def test_the_libraries_verify_for_themselves_too(
    certificates: Certificates, tls_redis: int, tls_rabbit: tuple[EmbeddedRabbitMQ, int]
) -> None:
    """A check at the start is no shield for the connections that come after it."""
    server, port = tls_rabbit
    login = server.url.rpartition("@")[0].replace("amqp://", "amqps://")
    for url in (
        f"rediss://127.0.0.1:{tls_redis}/0?ssl_ca_certs={certificates.ca}",
        f"rediss://localhost:{tls_redis}/0",
        f"{login}@127.0.0.1:{port}//?ssl_ca_certs={certificates.ca}",
        f"{login}@localhost:{port}//",
    ):
        with pytest.raises(BrokerUnavailable, match=r"(?i)certificate"):
            CeleryChunkQueue(make_app(Settings(broker=url)), "run-check", "DCT_BROKER").publish("a")
    with pytest.raises(redis.ConnectionError, match=r"(?i)certificate"):
        client.connect(
            f"rediss://127.0.0.1:{tls_redis}/0?ssl_ca_certs={certificates.ca}", retries=0
        ).ping()


def test_a_ca_file_of_the_environment_is_used(
    certificates: Certificates,
    tls_redis: int,
    tls_rabbit: tuple[EmbeddedRabbitMQ, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca)
    server, port = tls_rabbit
    login = server.url.rpartition("@")[0].replace("amqp://", "amqps://")
    # Then
    check_store(f"rediss://localhost:{tls_redis}/0")
    check_broker(f"rediss://localhost:{tls_redis}/0")
    check_broker(f"{login}@localhost:{port}//")


@pytest.mark.parametrize(
    "query", ["?ssl_cert_reqs=none", "?ssl_check_hostname=false&ssl_ca_certs={ca}"]
)
def test_what_proves_nothing_works_with_a_warning(
    query: str, certificates: Certificates, tls_redis: int, tls_rabbit: tuple[EmbeddedRabbitMQ, int]
) -> None:
    # Given
    server, port = tls_rabbit
    login = server.url.rpartition("@")[0].replace("amqp://", "amqps://")
    query = query.format(ca=certificates.ca)
    url = f"rediss://127.0.0.1:{tls_redis}/0{query}"
    # When
    with contextlib.closing(client.connect(url, retries=0)) as store:
        warnings = client.check(store, url, "DCT_STORE").warnings
        store.ping()
    for broker in (url, f"{login}@127.0.0.1:{port}//{query}"):
        queue = CeleryChunkQueue(make_app(Settings(broker=broker)), "run-check", "DCT_BROKER")
        queue.check()
        queue.publish("a")
        queue.purge()
        # Then
        assert "ssl_c" in queue.warning
    assert any("ssl_c" in warning for warning in warnings)


def test_a_file_of_the_url_that_cannot_be_read_is_named(
    certificates: Certificates, tls_redis: int, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").touch()
    for query, words in {
        "?ssl_ca_certs=/no/such/ca.pem": (
            "ssl_ca_certs of its URL names /no/such/ca.pem (No such file or directory)"
        ),
        f"?ssl_ca_certs={tmp_path}/empty.pem": "empty.pem (no certificate, or no key)",
        f"?ssl_ca_certs={certificates.ca}&ssl_certfile={certificates.ca}": (
            "ssl_certfile of its URL names"
        ),
    }.items():
        for check, url in tls_urls(f"localhost:{tls_redis}", query):
            assert words in said(check, url, REFUSED)
