"""What the ledger promises while its store fails.

Out of memory, without its scripts, slow, or standing still.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from dct_celery.adapters.embedded import EmbeddedValkey
from dct_celery.adapters.redisstore import client as store_client
from dct_celery.adapters.redisstore.checks import Checked
from dct_celery.adapters.redisstore.client import check, connect
from dct_celery.adapters.redisstore.ledger import RedisLedger
from dct_celery.adapters.redisstore.registry import RedisRegistry
from dct_celery.core.model import Chunk, Need, Phase
from dct_celery.core.run import events as ev
from dct_celery.core.run.leases import LeaseRef
from dct_celery.errors import InfrastructureError, StoreRefused, StoreUnavailable
from dct_celery.ports import WorkerInfo
from dct_celery.protocol.leases import ClaimAnswer
from dct_celery.protocol.workers import CheckedReport
from tests.conftest import SERVER_ENVIRONMENT
from tests.support.factories import KEY_ID, NONCE, held, make_spec, pool_door, run_door
from tests.support.runs import as_sent, finished

LEASE = 60_000
WORKER = WorkerInfo("build-a", "host", 1, "0.1", 1, KEY_ID, (KEY_ID,))
ME = "a" * 16
DONE, DRAINED = ev.ChunkCompleted(), ev.ChunkReleased(ev.ReleaseReason.DRAIN)
ONE = as_sent(finished(0))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A store of this file's own: its settings are changed while others must not notice."""
    try:
        started = EmbeddedValkey.start(tmp_path_factory.mktemp("store"), environ=SERVER_ENVIRONMENT)
    except InfrastructureError as error:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            raise
        pytest.skip(str(error))
    with started:
        yield started


@pytest.fixture
def client(server: EmbeddedValkey) -> Iterator[redis.Redis]:
    with connect(server.url) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.acl_deluser("plain")
        client.flushall()


@pytest.fixture
def ledger(client: redis.Redis) -> RedisLedger:
    ledger = RedisLedger(client, "run-one", run_door())
    assert ledger.open_run(ME, make_spec(), 600)
    ledger.commit([chunk("c1")])
    ledger.commit([chunk("c2")])
    return ledger


def chunk(name: str) -> Chunk:
    return Chunk(name, (0,), Phase.ISOLATED, Need.PRISTINE)


def take(ledger: RedisLedger, name: str = "c1", lease_ms: int = LEASE) -> LeaseRef:
    claim = ledger.claim(name, 1, worker="build-a", slot=1, lease_ms=lease_ms)
    assert claim.answer is ClaimAnswer.OK
    assert claim.lease is not None
    return claim.lease


def there(registry: RedisRegistry) -> list[str]:
    return [info.name for info in registry.workers()]


def writes(ledger: RedisLedger, lease: LeaseRef) -> dict[str, Callable[[], object]]:
    return {
        "claim": lambda: ledger.claim("c2", 1, worker="build-a", slot=2, lease_ms=LEASE),
        "renew": lambda: ledger.renew(lease, LEASE),
        "append": lambda: ledger.append(lease, 1, ONE, LEASE),
        "complete": lambda: ledger.end(lease, 1, DONE),
        "release": lambda: ledger.end(lease, 1, DRAINED),
        "reap": ledger.reap,
        "commit": lambda: ledger.commit([chunk("c3")]),
        "report": lambda: ledger.report("build-a", CheckedReport()),
    }


def refused(write: Callable[[], object]) -> str:
    with pytest.raises((StoreUnavailable, StoreRefused)) as caught:
        write()
    return str(caught.value)


class TestOutOfMemory:
    def test_every_write_is_refused_by_name_and_changes_nothing(
        self, client: redis.Redis, ledger: RedisLedger
    ) -> None:
        # Given
        lease = take(ledger)
        before = len(ledger.read("0", block_ms=0).entries)
        # When
        client.config_set("maxmemory", 1)
        said = {name: refused(write) for name, write in writes(ledger, lease).items()}
        client.config_set("maxmemory", 0)
        # Then
        assert all(
            "out of memory" in text and "raise its maxmemory" in text for text in said.values()
        ), said
        assert len(ledger.read("0", block_ms=0).entries) == before
        assert (ledger.renew(lease, LEASE), ledger.refused()) == ("ok", 0)

    def test_no_lease_is_lost_by_an_outage_that_is_longer_than_a_lease(
        self, client: redis.Redis, ledger: RedisLedger
    ) -> None:
        # Given
        lease = take(ledger, lease_ms=1000)
        # When: holder and reaper go on trying
        client.config_set("maxmemory", 1)
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            refused(lambda: ledger.renew(lease, 1000))
            refused(ledger.reap)
            time.sleep(0.1)
        client.config_set("maxmemory", 0)
        # Then
        assert ledger.reap() == []
        assert ledger.end(lease, 0, DONE) == "ok"

    def test_no_worker_whose_beat_is_refused_is_forgotten(self, client: redis.Redis) -> None:
        # Given
        registry = RedisRegistry(client, "pool", pool_door())
        registry.beat(WORKER, 1)
        registry.announce("run-one", NONCE, 1)
        # When: workers go on beating and reading
        client.config_set("maxmemory", 1)
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            refused(lambda: registry.beat(WORKER, 1))
            assert there(registry) == [WORKER.name]
            assert list(registry.active_runs()) == ["run-one"]
            time.sleep(0.1)
        client.config_set("maxmemory", 0)
        # Then: they have a whole horizon to say so, and end after it
        assert there(registry) == [WORKER.name]
        assert list(registry.active_runs()) == ["run-one"]
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            seen = registry.workers()
            time.sleep(0.1)
        assert seen == []


class TestReadOnly:
    def test_no_worker_is_forgotten_by_a_replica(self, client: redis.Redis) -> None:
        # Given
        registry = RedisRegistry(client, "pool", pool_door())
        registry.beat(WORKER, 0.5)
        # When
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        time.sleep(0.6)
        # Then
        assert there(registry) == [WORKER.name]

    def test_a_store_that_became_a_replica_refuses_writes_by_name(
        self, client: redis.Redis, ledger: RedisLedger
    ) -> None:
        # Given
        lease = take(ledger)
        # When
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        said = [refused(lambda: ledger.renew(lease, LEASE)), refused(ledger.reap)]
        # Then
        assert all("name the new one" in text for text in said), said


class TestScriptsForgotten:
    def test_every_verb_works_on_a_store_that_lost_its_scripts(self, client: redis.Redis) -> None:
        # Given: a store that has none of the scripts, as after a restart
        ledger, registry = (
            RedisLedger(client, "run-one", run_door()),
            RedisRegistry(client, "pool", pool_door()),
        )
        verbs: list[tuple[Callable[[], Any], Any]] = [
            (lambda: ledger.open_run(ME, make_spec(), 600), True),
            (lambda: ledger.commit([chunk("c1")]), None),
            (lambda: ledger.commit([chunk("c2")]), None),
            (lambda: take(ledger).fence, 1),
            (lambda: take(ledger, "c2").fence, 2),
            (lambda: ledger.renew(held(1), LEASE), "ok"),
            (lambda: ledger.append(held(1), 1, ONE, LEASE), "ok"),
            (lambda: ledger.end(held(1), 1, DONE), "ok"),
            (lambda: ledger.end(held(2, chunk="c2"), 0, DRAINED), "ok"),
            (lambda: ledger.report("build-a", CheckedReport()), None),
            (ledger.reap, []),
            (lambda: ledger.cancel("why"), None),
            (ledger.state, "cancelled"),
            (lambda: registry.beat(WORKER, 60), None),
            (lambda: there(registry), [WORKER.name]),
        ]
        # Then
        for number, (verb, answer) in enumerate(verbs):
            client.script_flush()
            assert verb() == answer, number

    def test_after_a_restart_with_nothing_on_disk_a_run_can_be_opened_again(
        self, client: redis.Redis, ledger: RedisLedger
    ) -> None:
        # Given: keys, scripts and connections are gone
        client.flushall()
        client.script_flush()
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
        # Then
        assert ledger.state() == "none"
        assert ledger.reap() == []
        assert ledger.open_run(ME, make_spec(), 600)


class TestSlow:
    def test_a_pause_within_the_lease_loses_nothing(
        self, client: redis.Redis, ledger: RedisLedger
    ) -> None:
        # Given
        lease = take(ledger, lease_ms=5000)
        # When
        client.client_pause(2000)
        # Then
        assert ledger.renew(lease, 5000) == "ok"
        assert ledger.reap() == []
        assert ledger.end(lease, 0, DONE) == "ok"

    def test_a_store_that_stood_still_for_longer_than_a_lease_loses_nothing(
        self, server: EmbeddedValkey, ledger: RedisLedger
    ) -> None:
        # Given
        lease = take(ledger, lease_ms=1000)
        # When
        stand_still(server, 2.5)
        # Then: the reaper may come before the holder
        assert ledger.reap() == []
        assert ledger.end(lease, 0, DONE) == "ok"

    def test_a_store_that_stood_still_for_longer_than_a_horizon_forgets_no_worker(
        self, server: EmbeddedValkey, client: redis.Redis
    ) -> None:
        # Given
        registry = RedisRegistry(client, "pool", pool_door())
        registry.beat(WORKER, 1)
        registry.announce("run-one", NONCE, 1)
        # When
        stand_still(server, 2.5)
        # Then
        assert there(registry) == [WORKER.name]
        assert list(registry.active_runs()) == ["run-one"]

    def test_a_claim_whose_answer_came_too_late_is_granted_when_it_is_sent_again(
        self, server: EmbeddedValkey, ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given: the store gets the claim, but answers after the time-out
        monkeypatch.setattr(store_client, "SOCKET_TIMEOUT", 0.5)
        with connect(server.url) as impatient:
            late = RedisLedger(impatient, "run-one", run_door())
            assert late.state() == "open"
            os.kill(server.pid, signal.SIGSTOP)
            resume = _later(0.8, lambda: os.kill(server.pid, signal.SIGCONT))
            # When
            claim = late.claim("c1", 1, worker="build-a", slot=1, lease_ms=LEASE)
            resume.join()
        # Then
        assert (claim.answer, claim.chunk) == ("ok", chunk("c1"))
        assert [entry.fields["k"] for entry in ledger.read("0", block_ms=0).entries] == [
            "offered",
            "offered",
            "claimed",
        ]
        assert claim.lease is not None
        assert ledger.end(claim.lease, 0, DONE) == "ok"


class TestCheck:
    def test_a_fit_store_passes(self, server: EmbeddedValkey, client: redis.Redis) -> None:
        checked = check(client, server.url, "--store")
        assert (bool(checked.version), checked.warnings) == (True, ())

    @pytest.mark.parametrize(
        ("setting", "value", "named"),
        [("maxmemory-policy", "volatile-lru", "volatile-lru"), ("maxmemory", "32mb", "32.0 MB")],
    )
    def test_what_would_lose_a_run_is_refused(
        self, server: EmbeddedValkey, client: redis.Redis, setting: str, value: str, named: str
    ) -> None:
        # Given
        client.config_set(setting, value)
        # When
        said = refused(lambda: check(client, server.url, "--store"))
        # Then
        assert named in said
        assert "(--store)" in said
        assert server.password not in said

    def test_a_replica_is_refused(self, server: EmbeddedValkey, client: redis.Redis) -> None:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert "127.0.0.1:1" in refused(lambda: check(client, server.url, "--store"))

    def test_a_store_that_forbids_info_is_used_with_a_warning(
        self, server: EmbeddedValkey, client: redis.Redis
    ) -> None:
        # Given
        client.execute_command(
            "ACL", "SETUSER", "plain", "on", ">word", "~dct:*", "+@all", "-info", "-config"
        )
        url = f"redis://plain:word@{server.host}:{server.port}/0"
        # When
        with connect(url) as plain:
            checked: Checked = check(plain, url, "--store")
        # Then
        assert checked.version == ""
        assert len(checked.warnings) == 2
        assert "word@" not in "".join(checked.warnings)


def stand_still(server: EmbeddedValkey, seconds: float) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(server.pid, signal.SIGCONT)


def _later(seconds: float, action: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_a_run_of_a_version_that_notes_no_reaps_is_never_taken_for_abandoned(
    client: redis.Redis, ledger: RedisLedger
) -> None:
    # Given
    client.hdel("dct:{run-one}:run", "reaped")
    # Then
    assert ledger.silence() == 0.0
    assert not ledger.abandon()
    assert ledger.state() == "open"
