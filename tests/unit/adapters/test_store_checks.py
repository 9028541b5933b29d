"""Claims about the store's check at the start.

A server that would lose or refuse a run's keys is refused, with the fix.
"""

from __future__ import annotations

from typing import Any

import pytest

from dct_celery.adapters.redisstore import client
from dct_celery.adapters.redisstore.checks import judge
from dct_celery.errors import StoreRefused

WHERE = "the store at redis://h/0 (DCT_STORE)"
FIT: dict[str, Any] = {
    "redis_version": "7.0.15",
    "role": "master",
    "maxmemory_policy": "noeviction",
    "maxmemory": 0,
}
MB = 1024 * 1024


def refusal(**info: Any) -> str:
    with pytest.raises(StoreRefused) as caught:
        judge({**FIT, **info}, WHERE)
    message = str(caught.value)
    assert message.startswith(f"{WHERE} ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "info",
    [{}, {"maxmemory": 64 * MB}, {"redis_version": "6.2.0"}, {"redis_version": "255.255.255"}],
)
def test_a_fit_store_passes_without_a_warning(info: dict[str, Any]) -> None:
    checked = judge({**FIT, **info}, WHERE)
    assert (checked.version, checked.warnings) == (info.get("redis_version", "7.0.15"), ())


@pytest.mark.parametrize(
    "policy", ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"]
)
def test_a_store_that_evicts_is_refused(policy: str) -> None:
    message = refusal(maxmemory_policy=policy, maxmemory=512 * MB)
    assert f"(maxmemory-policy {policy})" in message
    assert message.endswith(
        "; CONFIG SET maxmemory-policy noeviction there, or use a server of its own"
    )


def test_a_store_with_little_memory_is_refused() -> None:
    message = refusal(maxmemory=64 * MB - 1)
    assert "a run needs 64 MB; CONFIG SET maxmemory 256mb" in message


def test_a_replica_is_refused_and_its_primary_named() -> None:
    message = refusal(role="slave", master_host="10.0.0.7", master_port=6380)
    assert message.endswith("; name its primary, 10.0.0.7:6380")


@pytest.mark.parametrize("version", ["6.0.16", "5.0.14", "2.8"])
def test_an_old_store_is_refused(version: str) -> None:
    assert refusal(redis_version=version).endswith(
        f"is version {version}; use Redis or Valkey 6.2 or newer"
    )


def test_what_the_store_does_not_report_is_warned_about() -> None:
    # When: INFO is forbidden
    checked = judge({}, WHERE)
    # Then
    assert checked.version == ""
    assert [warning.partition("; ")[0] for warning in checked.warnings] == [
        f"{WHERE} does not say its version",
        f"{WHERE} does not say its maxmemory-policy",
    ]


def test_a_slow_answer_is_waited_for_longer_than_5_seconds() -> None:
    # When
    with client.connect("redis://127.0.0.1:1/0") as connection:
        options = connection.connection_pool.connection_kwargs
    # Then
    assert options["socket_timeout"] > 5
    assert options["socket_connect_timeout"] > 5
