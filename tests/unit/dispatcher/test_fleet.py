"""Claims about `dispatcher.fleet`: who can take part, and why the others cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dct_celery.dispatcher.fleet import Fleet
from dct_celery.ports import WorkerInfo
from dct_celery.protocol.workers import RefusedReport, RunStage

READY = WorkerInfo("build-a", "host-1", 4, "0.1.0", 1, "abc", ("abc",), {"run-one": RunStage.READY})
PREPARING = replace(READY, name="build-b", slots=2, runs={"run-one": RunStage.PREPARING})
OLD = replace(READY, name="build-c", version="0.0.9")
OTHER_PROTOCOL = replace(READY, name="build-d", protocol=2)
OTHER_KEY = replace(READY, name="build-e", key_id="xyz", keys=("xyz",))


@pytest.fixture
def fleet() -> Fleet:
    return Fleet("run-one", "default", "0.1.0", 1, "abc")


def test_slots_of_all_usable_workers_count_and_ready_ones_apart(fleet: Fleet) -> None:
    # When
    fleet.update([READY, PREPARING, OLD, OTHER_KEY], 1.0)
    # Then
    assert (fleet.slots, fleet.ready_slots, fleet.ready_workers) == (6, 4, 1)
    assert fleet.usable == [READY, PREPARING]


def test_ready_for_another_run_is_not_ready_for_this_one(fleet: Fleet) -> None:
    # When
    fleet.update([replace(READY, runs={"run-two": RunStage.READY})], 1.0)
    # Then
    assert (fleet.slots, fleet.ready_slots) == (4, 0)


@pytest.mark.parametrize(
    ("worker", "mend"),
    [
        (OLD, "install the same version"),
        (OTHER_PROTOCOL, "install the same version"),
        (OTHER_KEY, "DCT_SIGNING_KEY"),
    ],
)
def test_an_obstacle_names_its_fix(fleet: Fleet, worker: WorkerInfo, mend: str) -> None:
    assert mend in fleet.obstacle(worker)


def test_the_time_without_a_usable_worker_is_known(fleet: Fleet) -> None:
    # When
    fleet.update([READY], 5.0)
    fleet.update([OLD], 9.0)
    fleet.update([], 10.0)
    # Then
    assert fleet.last_usable == 5.0


def test_a_worker_that_refused_is_not_used(fleet: Fleet) -> None:
    # Given
    fleet.refusals["build-a"] = RefusedReport("has Django 4.2")
    # When
    fleet.update([READY, PREPARING], 1.0)
    # Then
    assert fleet.usable == [PREPARING]
    assert not fleet.all_refused
    # When
    fleet.refusals["build-b"] = RefusedReport("has no Django")
    # Then
    assert fleet.all_refused


def test_an_empty_pool_has_not_refused(fleet: Fleet) -> None:
    assert not fleet.all_refused


def test_a_run_that_no_worker_takes_names_the_workers_and_their_reasons(fleet: Fleet) -> None:
    # Given
    fleet.refusals["build-a"] = RefusedReport("has Django 4.2")
    fleet.update([READY, PREPARING, OTHER_KEY], 1.0)
    # When
    line = fleet.missing(30)
    # Then
    assert "no worker of pool 'default' took the run within 30 s (--queue-timeout)" in line
    assert (
        "build-a: has Django 4.2; build-b: is not ready; build-e: has another signing key" in line
    )


def test_an_empty_pool_is_reported_as_empty(fleet: Fleet) -> None:
    assert "no workers are connected; start one with the same store and pool" in fleet.missing(1.5)


def test_a_worker_that_backs_off_gets_no_work_and_is_not_gone(fleet: Fleet) -> None:
    # Given
    sick = replace(READY, backing_off="backs off for 5 s after 3 infrastructure failures in a row")
    # When
    fleet.update([sick, OLD], 1.0)
    # Then
    assert fleet.usable == []
    assert fleet.fit == [sick]
    assert fleet.obstacle(sick) == sick.backing_off


def test_a_worker_that_knows_our_key_among_others_is_used_whichever_it_signs_with(
    fleet: Fleet,
) -> None:
    # When
    fleet.update([replace(OTHER_KEY, keys=("xyz", "abc"))], 1.0)
    # Then
    assert fleet.slots == 4


def test_a_worker_whose_entry_is_untrusted_has_another_key_or_another_version(
    fleet: Fleet,
) -> None:
    # Given
    stranger = WorkerInfo("build-x", "", 0, "", 0, "", foreign="is not signed")
    old = replace(stranger, version="0.0.1", protocol=3, foreign="runs dct_celery 0.0.1")
    # Then
    assert "set the same DCT_SIGNING_KEY_FILE on both sides" in fleet.obstacle(stranger)
    assert "runs dct_celery 0.0.1, this is 0.1.0" in fleet.obstacle(old)


def test_only_what_no_retry_fixes_is_permanent(fleet: Fleet) -> None:
    assert not fleet.permanent, "nobody is there"
    # When
    fleet.update([READY, OLD], 1.0)
    # Then
    assert not fleet.permanent
    # When
    fleet.refusals["build-a"] = RefusedReport("could not get the code")
    assert not fleet.permanent
    fleet.refusals["build-a"] = RefusedReport("has another Django", permanent=True)
    # Then
    assert fleet.permanent


def test_each_reason_is_reported_once_with_its_workers(fleet: Fleet) -> None:
    # Given
    crowd = [replace(OTHER_KEY, name=f"build-{n}") for n in range(5)]
    # When
    fleet.update([*crowd, OLD], 1.0)
    # Then
    assert fleet.reasons().startswith(
        "build-0, build-1, build-2 and 2 more: has another signing key"
    )
    assert fleet.reasons().count("has another signing key") == 1
    assert "; build-c: runs dct_celery 0.0.9" in fleet.reasons()


HERE, THERE = "id-1|redis://:**@a/0", "id-2|redis://:**@b/0"


def at(name: str, broker: str) -> WorkerInfo:
    return replace(WorkerInfo(name, "h", 1, "0.1.0", 1, "abc", ("abc",)), broker=broker)


def test_a_worker_at_another_broker_is_not_used_and_both_are_named(fleet: Fleet) -> None:
    # Given
    fleet.broker = HERE
    # When
    fleet.update([at("a@h", THERE), at("b@h", "id-1|redis://localhost/0")], now=5.0)
    # Then: the name of the same one does not matter
    assert [worker.name for worker in fleet.usable] == ["b@h"]
    obstacle = fleet.obstacle(fleet.workers[0])
    assert "redis://:**@b/0" in obstacle
    assert "redis://:**@a/0" in obstacle
    assert "id-2" not in obstacle
    assert not fleet.all_elsewhere


@pytest.mark.parametrize(
    ("theirs", "ours"), [("", HERE), (HERE, ""), ("|redis://b", HERE), (HERE, HERE)]
)
def test_nothing_is_reported_of_an_unknown_broker(fleet: Fleet, theirs: str, ours: str) -> None:
    # Given
    fleet.broker = ours
    # When
    fleet.update([at("a@h", theirs)], now=5.0)
    # Then
    assert len(fleet.usable) == 1
    assert fleet.elsewhere_since == 0.0


def test_how_long_all_have_been_elsewhere_is_known_and_one_that_is_not_ends_it(
    fleet: Fleet,
) -> None:
    # Given
    fleet.broker = HERE
    # When
    fleet.update([at("a@h", THERE)], now=5.0)
    fleet.update([at("a@h", THERE)], now=7.0)
    # Then
    assert fleet.elsewhere_since == 5.0
    assert "redis://:**@b/0" in fleet.misled()
    assert "DCT_BROKER" in fleet.misled()
    # When
    fleet.update([at("a@h", THERE), at("b@h", HERE)], now=8.0)
    # Then
    assert fleet.elsewhere_since == 0.0


def test_what_a_run_waits_for_is_what_its_workers_are_at(fleet: Fleet) -> None:
    # Given
    fleet.update([PREPARING, replace(READY, runs={})], 1.0)
    # Then
    assert fleet.awaited() == "waiting for build-b to prepare code and databases"
    # When
    fleet.update([READY], 2.0)
    # Then
    assert fleet.awaited() == "waiting for a slot to take the first chunk"
    # When
    fleet.refusals["build-a"] = RefusedReport("has Django 4.2")
    # Then
    assert fleet.awaited() == "waiting for a worker that can take part; build-a: has Django 4.2"
