"""The store's password without the pool's key: it can delay or stop a run, and nothing else (I11).

Every attack goes on beside an honest run, which must end with the verdicts of the sequential one.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.attacker import Attacker, Recording, going_on
from tests.support.fleet import Finished, Fleet, until
from tests.support.projects import make_project

#: One class that fails, one whose tear-down fails, and enough that takes a while.
MIXED = """
    import time
    from django.test import SimpleTestCase

    LOG = {log!r}

    class Slow(SimpleTestCase):
        def setUp(self):
            time.sleep(0.15)
            with open(LOG, "a") as file:
                print(self.id(), file=file)

        def test_a(self): pass
        def test_b(self): pass

    class Slow2(Slow): pass
    class Slow3(Slow): pass
    class Slow4(Slow): pass

    class Fails(SimpleTestCase):
        def test_it(self): self.fail("as it should")

    class TornDown(SimpleTestCase):
        @classmethod
        def tearDownClass(cls):
            super().tearDownClass()
            raise RuntimeError("the tear-down fails")

        def test_it(self): pass
"""
EXPECTED = {
    **{
        f"test_it.{cls}.test_{test}": "passed"
        for cls in ("Slow", "Slow2", "Slow3", "Slow4")
        for test in "ab"
    },
    "test_it.Fails.test_it": "failed",
    "test_it.TornDown.test_it": "passed",
}
#: What shows that code of a project ran.
MARK = "import pathlib\npathlib.Path({path!r}).touch()\n"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, fleet_store: str) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("attacked"), fleet_store) as fleet:
        fleet.worker(DCT_LEASE_SECONDS="2")
        yield fleet


@pytest.fixture
def attacker(attacked: Fleet) -> Attacker:
    return Attacker(attacked)


def mixed(place: Path) -> Path:
    return make_project(place, MIXED.format(log=str(place.parent / "ran.log")))


def assert_honest(finished: Finished, fleet: Fleet) -> None:
    assert finished.code == 1, finished
    assert finished.outcomes() == EXPECTED, finished
    assert [fixture["id"] for fixture in finished.json["fixtures"]] == [
        "tearDownClass (test_it.TornDown)"
    ], finished
    assert not finished.inner_traceback, finished
    assert not [worker for worker in fleet.workers if worker.process.poll() is not None]


# -- forged results ----------------------------------------------------------------------------


def test_a_run_without_workers_is_not_made_green_by_forged_entries(
    tmp_path: Path, fleet_store: str, place: Path
) -> None:
    # Given
    with Fleet(tmp_path / "empty", fleet_store) as fleet:
        attacker = Attacker(fleet)
        running = fleet.start(mixed(place), "--queue-timeout", "6")
        attacker.wait_for(running.run, "run")
        worker = {
            "name": "evil@host", "host": "host", "slots": 4, "version": "0.1.0", "protocol": 4,
            "key_id": "0" * 12, "busy": 0, "runs": {running.run: "ready"},
        }  # fmt: skip

        def forge() -> None:
            attacker.announce("evil@host", json.dumps(worker), "workers")
            for number in range(1, 13):
                lease = {"e": 1, "c": f"c{number}", "a": 1, "f": number, "w": "evil@host", "s": 0}
                attacker.add_entry(running.run, k="claimed", d=15000, **lease)
                passed = [
                    {"kind": "TestFinished", "index": i, "outcome": "passed", "seconds": 0.1}
                    for i in range(10)
                ]
                attacker.add_entry(running.run, k="records", q=10, d=json.dumps(passed), **lease)
                attacker.add_entry(running.run, k="completed", q=10, d="{}", **lease)
            attacker.add_entry(
                running.run, k="report", e=1, w="evil@host", d=json.dumps({"kind": "CheckedReport"})
            )

        # When
        with going_on(forge, 0.2):
            finished = running.finish()
    # Then
    assert finished.code in (4, 7), finished
    assert set(finished.outcomes().values()) == {"not_run"}


def test_records_that_are_not_signed_count_for_nothing(
    attacked: Fleet, attacker: Attacker, place: Path
) -> None:
    # Given
    running = attacked.start(mixed(place))
    attacker.wait_for(running.run, "events")
    green = [
        {"kind": "TestFinished", "index": i, "outcome": "passed", "seconds": 0.1} for i in range(10)
    ]

    def forge() -> None:
        for _, entry in attacker.stream(running.run):
            if entry[b"k"] == b"claimed":
                lease = {name: entry[name.encode()] for name in "ecafws"}
                attacker.add_entry(running.run, k="records", q=10, d=json.dumps(green), **lease)
                attacker.add_entry(running.run, k="completed", q=10, d="{}", **lease)

    # When
    with going_on(forge, 0.3):
        finished = running.finish()
    # Then
    assert_honest(finished, attacked)


def test_signed_records_cannot_be_moved_to_another_chunk_or_run(
    attacked: Fleet, attacker: Attacker, place: Path
) -> None:
    # Given
    running = attacked.start(mixed(place))
    attacker.wait_for(running.run, "events")

    def move() -> None:
        entries = [entry for _, entry in attacker.stream(running.run)]
        claims = [entry for entry in entries if entry[b"k"] == b"claimed"]
        for signed in [entry for entry in entries if entry[b"k"] in (b"records", b"completed")][:3]:
            for claim in claims:
                attacker.client.xadd(
                    attacker.run_key(running.run, "events"),
                    {**signed, **{n: claim[n] for n in (b"c", b"f")}},
                )

    # When
    with going_on(move, 0.3):
        finished = running.finish()
    # Then
    assert_honest(finished, attacked)


def test_records_that_are_taken_away_come_again(
    attacked: Fleet, attacker: Attacker, place: Path
) -> None:
    # Given
    running = attacked.start(mixed(place))
    attacker.wait_for(running.run, "events")
    taken = 0

    def take() -> None:
        nonlocal taken
        for id_, entry in attacker.stream(running.run):
            if (
                entry[b"k"] == b"records"
                and taken < 3
                and attacker.client.xdel(attacker.run_key(running.run, "events"), id_)
            ):
                taken += 1

    # When
    with going_on(take, 0.001):
        finished = running.finish()
    # Then
    assert_honest(finished, attacked)


# -- forged orders -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "cancelled", "reason": "forged"},
        {"state": "closed"},
        {"state": "nonsense"},
        {"owner": "forged"},
        {"epoch": "77"},
        {"spec": "forged", "manifest": "forged"},
    ],
    ids=lambda fields: "-".join(fields) + "-" + str(next(iter(fields.values()))),
)
def test_a_forged_field_of_the_run_stops_nothing(
    attacked: Fleet, attacker: Attacker, place: Path, fields: dict[str, str]
) -> None:
    # Given
    running = attacked.start(mixed(place))
    until(lambda: attacker.chunks(running.run), what="the first chunk")
    # When
    attacker.client.hset(attacker.run_key(running.run, "run"), mapping=fields)
    finished = running.finish()
    # Then
    assert_honest(finished, attacked)


def test_chunks_that_are_exchanged_in_the_store_run_as_they_were_planned(
    attacked: Fleet, attacker: Attacker, place: Path
) -> None:
    # Given
    running = attacked.start(mixed(place))
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        chunks = [
            key
            for key in attacker.chunks(running.run)
            if attacker.client.hget(key, "state") == b"queued"
        ]
        if chunks and swaps < 4:
            done = [key for key in attacker.chunks(running.run) if key not in chunks]
            if done:
                attacker.client.hset(chunks[0], "payload", attacker.client.hget(done[0], "payload"))
                swaps += 1

    # When
    with going_on(swap, 0.005):
        finished = running.finish()
    # Then
    assert_honest(finished, attacked)


# -- replay ------------------------------------------------------------------------------------


def test_a_run_that_ended_stays_ended(attacked: Fleet, attacker: Attacker, place: Path) -> None:
    # Given
    log = place.parent / "ran.log"
    running = attacked.start(mixed(place))
    attacker.wait_for(running.run, "run")
    recording = Recording(running.run)
    with going_on(lambda: attacker.record(running.run, recording), 0.005):
        finished = running.finish()
    assert_honest(finished, attacked)
    assert recording.announced
    until(lambda: not attacked.workers[0].run_folders(), what="the end of the run on the worker")
    ran = log.read_text()
    # When
    other = f"replay-{secrets.token_hex(4)}"
    for _ in range(5):
        attacker.replay(recording)
        attacker.replay(recording, run=other)
        time.sleep(0.6)
    # Then
    for run in (running.run, other):
        attacker.forget(run)
        for key in attacker.client.scan_iter(f"*{run}*"):
            attacker.client.delete(key)
    assert log.read_text() == ran
    assert_honest(attacked.run(mixed(place)), attacked)


def test_what_has_run_does_not_run_again_when_it_is_replayed_at_once(
    attacked: Fleet, attacker: Attacker, place: Path
) -> None:
    # Given
    running = attacked.start(mixed(place))
    attacker.wait_for(running.run, "run")
    recording = Recording(running.run)

    def replay() -> None:
        attacker.record(running.run, recording)
        for chunk in attacker.chunks(running.run):
            if attacker.client.hget(chunk, "state") == b"done":
                attacker.client.hset(chunk, "state", "queued")
        for message in recording.messages[:10]:
            attacker.client.lpush(f"dct:dct.run.{running.run}", message)

    # When
    with going_on(replay, 0.05):
        finished = running.finish()
        time.sleep(1.0)
    # Then
    assert_honest(finished, attacked)
    ran = (place.parent / "ran.log").read_text().splitlines()
    assert sorted(ran) == sorted(test for test in EXPECTED if ".Slow" in test)


# -- files -------------------------------------------------------------------------------------


def test_no_name_from_the_registry_becomes_a_path(
    attacked: Fleet, attacker: Attacker, place: Path
) -> None:
    # Given
    victim = place.parent / "victim"
    (victim / "spool").mkdir(parents=True)
    (victim / "spool" / "precious").touch()
    work = attacked.workers[0].folder
    names = [
        str(victim),
        f"../../../../../../../../../..{victim}",
        "..",
        ".",
        "",
        "a/../b",
        "x" * 3000,
        "a\0b",
        "-rf",
    ]
    # When
    for name in names:
        attacker.announce(name, json.dumps({"epoch": 1}), seconds=2)
        attacker.client.hset(f"dct:{{{name}}}:run", mapping={"state": "closed"})
    time.sleep(3.0)
    # Then
    for name in names:
        attacker.forget(name)
        attacker.client.delete(f"dct:{{{name}}}:run")
    assert (victim / "spool" / "precious").exists()
    assert work.is_dir()
    assert_honest(attacked.run(mixed(place)), attacked)


def test_an_index_that_was_exchanged_is_not_run(
    attacked: Fleet, attacker: Attacker, place: Path, tmp_path: Path
) -> None:
    # Given
    mark = tmp_path / "code-ran"
    project = mixed(place)
    (project / "unique.txt").write_text(secrets.token_hex(8))
    evil = make_project(tmp_path / "evil", files={"test_it.py": MARK.format(path=str(mark))})
    assert attacked.run(evil).code in (1, 4, 5)
    mark.unlink(missing_ok=True)
    index = {key: attacker.client.get(key) for key in attacker.client.scan_iter("dct:blob:*")}
    indices = [value for value in index.values() if value is not None]

    def poison() -> None:
        for key in attacker.client.scan_iter("dct:blob:*"):
            if key not in index:
                attacker.client.set(key, secrets.choice(indices), ex=600)

    # When
    running = attacked.start(project, "--queue-timeout", "15")
    with going_on(poison, 0.005):
        until(
            lambda: (
                running.process.poll() is not None
                or attacker.client.exists(attacker.run_key(running.run, "head"))
            ),
            30,
        )
        time.sleep(1.0)
    finished = running.finish()
    # Then
    assert not mark.exists()
    assert finished.code in (1, 4, 7), finished
    if finished.code == 1:
        assert_honest(finished, attacked)
