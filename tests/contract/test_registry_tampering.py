"""What an attacker with the store's password, but without the key, can put into a registry.

Nothing that is believed (I11).
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from dct_celery.adapters.redisstore import keys
from dct_celery.ports import Registry, WorkerInfo
from dct_celery.protocol.door import Door
from dct_celery.protocol.runs import Announcement
from dct_celery.security.signing import Keyring, key_id
from tests.contract.conftest import RealStore, Store
from tests.support.factories import KEY, KEY_ID, NONCE, OTHER_KEY, make_spec, pool_door

WORKER = WorkerInfo("build-a@host", "host-1", 4, "0.1.0", 4, KEY_ID, (KEY_ID,))


def later(store: Store) -> int:
    return store.now_ms() + 60_000


def announcement(
    store: Store, run: str = "run-one", *, door: Door | None = None, expires_ms: int = 0
) -> str:
    return (door or pool_door()).seal(Announcement(run, NONCE, 1, expires_ms or later(store)))


def believed(registry: Registry) -> list[str]:
    return [info.name for info in registry.workers() if not info.foreign]


# -- runs ------------------------------------------------------------------------------


def test_a_true_announcement_that_is_written_by_hand_is_trusted(store: Store) -> None:
    # When: so that what the others here lack is what they say
    store.write_entries("runs", {"run-one": announcement(store)})
    # Then
    (found,) = store.registry().active_runs().values()
    assert (found.announcement.run, found.announcement.nonce, found.epoch, found.key_id) == (
        "run-one",
        NONCE,
        1,
        KEY_ID,
    )
    assert store.registry().complaints() == []


def test_what_was_announced_names_its_run_and_its_key(store: Store) -> None:
    # When
    store.registry().announce("run-one", NONCE, 60, 3)
    # Then
    (found,) = store.registry().active_runs().values()
    assert (found.announcement.run, found.announcement.nonce, found.epoch, found.key_id) == (
        "run-one",
        NONCE,
        3,
        KEY_ID,
    )


UNSIGNED = '{"run":"run-one","nonce":"0123456789abcdef","epoch":1,"expires_ms":9999999999999}'


@pytest.mark.parametrize("says", ["", "1", UNSIGNED, f"dct4.{UNSIGNED}", "\n" * 50])
def test_an_announcement_that_is_not_signed_is_not_trusted(store: Store, says: str) -> None:
    # Given
    registry = store.registry()
    # When
    store.write_entries("runs", {"run-one": says})
    # Then
    assert registry.active_runs() == {}
    assert registry.complaints() == ["the registry of runs: an entry is not signed; it is ignored"]
    assert registry.active_runs() == {}
    assert registry.complaints() == [], "it is reported once"


def test_an_announcement_with_another_key_is_not_trusted(store: Store) -> None:
    # When
    store.write_entries("runs", {"run-one": announcement(store, door=pool_door(OTHER_KEY))})
    # Then
    registry = store.registry()
    assert registry.active_runs() == {}
    assert "is signed with another key" in registry.complaints()[0]


def test_an_announcement_of_another_pool_is_not_trusted(store: Store) -> None:
    # When
    store.write_entries("runs", {"run-one": announcement(store, door=pool_door(pool="other"))})
    # Then
    registry = store.registry()
    assert registry.active_runs() == {}
    assert "has a wrong signature" in registry.complaints()[0]


def test_an_announcement_that_is_replayed_under_another_run_is_not_trusted(store: Store) -> None:
    # Given
    store.registry().announce("run-one", NONCE, 60)
    # When
    store.write_entries("runs", {"run-two": store.entry("runs", "run-one")})
    # Then
    registry = store.registry()
    assert list(registry.active_runs()) == ["run-one"]
    assert len(registry.complaints()) == 1


def test_an_announcement_that_is_kept_alive_beyond_its_time_is_not_trusted(store: Store) -> None:
    # Given
    store.write_entries("runs", {"run-one": announcement(store, expires_ms=store.now_ms() - 1000)})
    # Then
    registry = store.registry()
    assert registry.active_runs() == {}
    assert "has expired" in registry.complaints()[0]


def test_a_worker_does_not_pass_for_a_run(store: Store) -> None:
    # Given
    store.registry().beat(WORKER, 60)
    # When
    store.write_entries("runs", {"run-one": store.entry("workers", WORKER.name)})
    # Then
    assert store.registry().active_runs() == {}


# -- workers ---------------------------------------------------------------------------


def test_a_worker_with_another_key_is_listed_and_nothing_that_it_reports_counts(
    store: Store,
) -> None:
    # Given
    store.registry(door=pool_door(OTHER_KEY)).beat(replace(WORKER, slots=64, version="9"), 60)
    # When
    (found,) = store.registry().workers()
    # Then
    assert (found.name, found.slots, found.version, found.keys) == (WORKER.name, 0, "", ())
    assert found.foreign
    assert found.key_id == key_id(OTHER_KEY)


def test_a_workers_entry_under_another_name_is_not_trusted(store: Store) -> None:
    # Given
    store.registry().beat(WORKER, 60)
    # When
    store.write_entries("workers", {"build-b@host": store.entry("workers", WORKER.name)})
    # Then
    registry = store.registry()
    assert [info.name for info in registry.workers()] == [WORKER.name]
    assert "is another" in registry.complaints()[0]


def test_a_worker_that_has_ended_cannot_be_kept_alive(store: Store) -> None:
    # Given
    gone = replace(WORKER, expires_ms=store.now_ms() - 1000)
    # When
    store.write_entries("workers", {WORKER.name: pool_door().seal(gone)})
    # Then
    registry = store.registry()
    assert registry.workers() == []
    assert "has expired" in registry.complaints()[0]


def test_a_worker_cannot_call_itself_foreign(store: Store) -> None:
    # When
    own = replace(WORKER, foreign="\x1b[2J", expires_ms=later(store))
    store.write_entries("workers", {WORKER.name: pool_door().seal(own)})
    # Then
    assert store.registry().workers() == []


@pytest.mark.parametrize(
    "text",
    ['"slots":"4"', '"slots":-1', '"slots":[4]', '"slots":4.0', '"slots":true', '"slots":1e999'],
)
def test_a_text_where_slots_should_be_is_not_trusted_though_it_is_signed(
    store: Store, text: str
) -> None:
    # Given
    info = replace(WORKER, expires_ms=later(store))
    body = pool_door().seal(info).split(".", 3)[3]
    assert '"slots":4' in body
    # When
    store.write_entries(
        "workers",
        {WORKER.name: pool_door().seal_text("WorkerInfo", body.replace('"slots":4', text))},
    )
    # Then
    registry = store.registry()
    assert believed(registry) == []
    assert "is malformed" in registry.complaints()[0]


# -- keys that change ------------------------------------------------------------------

OLD, NEW = (KEY,), (OTHER_KEY,)


@pytest.mark.parametrize(
    "side", [OLD, NEW, OLD + NEW, NEW + OLD], ids=["old", "new", "old and new", "new and old"]
)
@pytest.mark.parametrize("both", [OLD + NEW, NEW + OLD], ids=["signs old first", "signs new first"])
def test_a_holder_of_two_keys_is_trusted_by_either_side(
    store: Store, side: tuple[str, ...], both: tuple[str, ...]
) -> None:
    # Given
    speaker = store.registry(door=pool_door(*both))
    speaker.beat(WORKER, 60)
    speaker.announce("run-one", NONCE, 60)
    # When
    registry = store.registry(door=pool_door(*side))
    # Then
    assert believed(registry) == [WORKER.name]
    (found,) = registry.active_runs().values()
    assert found.key_id in {key_id(key) for key in side}
    assert registry.complaints() == []


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_a_holder_of_two_keys_trusts_either_side(store: Store, key: str) -> None:
    # Given
    store.registry(door=pool_door(key)).beat(WORKER, 60)
    store.registry(door=pool_door(key)).announce("run-one", NONCE, 60)
    # When
    registry = store.registry(door=pool_door(KEY, OTHER_KEY))
    # Then
    assert believed(registry) == [WORKER.name]
    # So a run keeps to the key that it was begun with
    (found,) = registry.active_runs().values()
    assert found.key_id == key_id(key)
    door = pool_door(KEY, OTHER_KEY).of_run("run-one", NONCE, found.key_id)
    assert (
        pool_door(key).of_run("run-one", NONCE).unseal_text("x", door.seal_text("x", "{}")) == "{}"
    )


def test_without_a_key_only_entries_without_one_are_trusted(
    store: Store,
) -> None:
    # Given
    nobody = Door.of_pool(Keyring(), "pool")
    store.registry(door=nobody).beat(WORKER, 60)
    store.registry().beat(replace(WORKER, name="build-b@host"), 60)
    # Then
    assert believed(store.registry(door=nobody)) == [WORKER.name]
    assert believed(store.registry()) == ["build-b@host"]


# -- very much junk --------------------------------------------------------------------


def test_one_good_entry_is_found_among_ten_thousand_and_a_read_stays_short(store: Store) -> None:
    # Given
    other = pool_door(OTHER_KEY)
    junk = {
        f"junk-{number:05}": other.seal(replace(WORKER, busy=number)) for number in range(10_000)
    }
    store.write_entries("workers", junk)
    store.write_entries("runs", {name: announcement(store, door=other) for name in junk})
    registry = store.registry()
    registry.beat(WORKER, 60)
    registry.announce("run-one", NONCE, 60)
    # When: the first read verifies, the others remember
    registry.workers(), registry.active_runs()
    start = time.process_time()
    found, active = registry.workers(), registry.active_runs()
    seconds = time.process_time() - start
    # Then
    assert believed(registry) == [WORKER.name]
    assert list(active) == ["run-one"]
    assert len(found) <= 21, "of those without our key a few are reported"
    assert len(registry.complaints()) == 2
    # It is read five times a second.
    assert seconds < (2.0 if isinstance(store, RealStore) else 30)


def test_a_very_long_entry_is_not_read(store: Store) -> None:
    # Given: signed with our key
    long = replace(WORKER, about={"text": "x" * 100_000}, expires_ms=later(store))
    # When
    store.write_entries("workers", {WORKER.name: pool_door().seal(long)})
    # Then
    assert believed(store.registry()) == []


# -- what only Redis can hold ----------------------------------------------------------


@pytest.fixture
def real(store: Store) -> RealStore:
    if not isinstance(store, RealStore):
        pytest.skip("the fake holds text alone")
    return store


def test_bytes_that_are_no_text_are_ignored(real: RealStore) -> None:
    # Given
    registry = real.registry()
    registry.beat(WORKER, 60)
    real.write_entries("workers", {b"\xff\xfe": b"\xc3(", "build-b@host": b"\xff" * 50})  # type: ignore[dict-item]
    real.write_entries("runs", {b"\xff\xfe": b"\xc3(", "run-two": b"dct4.\xff.\xff.{}"})  # type: ignore[dict-item]
    # Then
    assert believed(registry) == [WORKER.name]
    assert registry.active_runs() == {}
    # A stream and a specification may hold them, too
    ledger = real.ledger()
    assert ledger.open_run("a" * 16, make_spec(real.run), 60)
    real.write_stream({b"k": b"\xff", b"\xff": b"\xfe"})  # type: ignore[dict-item]
    assert len(ledger.read("0", block_ms=0).rejected) == 1


def test_a_worker_of_an_earlier_version_is_seen_with_its_version(real: RealStore) -> None:
    # Given: where it says that it is there, as it says it
    members, says, _ = keys.pool_workers_before(f"pool{real._token}")
    real._client.zadd(
        members, {"build-o@host": later(real), "bad": later(real), "\x1b[2J": later(real)}
    )
    old = '{"name":"build-o@host","version":"0.1.0","protocol":3,"slots":4}'
    real._client.hset(
        says, mapping={"build-o@host": old, "bad": '{"version":["x"]}', "\x1b[2J": old}
    )
    real._client.expire(members, 60), real._client.expire(says, 60)
    # When
    (found,) = real.registry().workers()
    # Then
    assert (found.name, found.version, found.protocol, found.slots) == (
        "build-o@host",
        "0.1.0",
        3,
        0,
    )
    assert found.foreign == "runs dct_celery 0.1.0"
