"""The chaos schedule: reproducible, bounded, and with every kind in it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.faults import FAULTS, PENDING
from tests.chaos.scene import REMOTE
from tests.chaos.schedule import MOST, MOST_LOSING, Kind, broker_of, order, plan
from tests.chaos.session import choose

KINDS = [fault.kind() for fault in FAULTS.values()]
BY_NAME = {kind.name: kind for kind in KINDS}
PLANS = [plan(seed, KINDS, workers=3) for seed in range(400)]


def test_a_seed_gives_the_same_round_again() -> None:
    # Given, when
    again = [plan(seed, KINDS, workers=3) for seed in range(400)]
    # Then
    assert again == PLANS
    assert len({one.strikes for one in PLANS}) == len(PLANS)


def test_each_round_has_one_to_four_strikes_within_the_run_and_in_order() -> None:
    for one in PLANS:
        fractions = [strike.fraction for strike in one.strikes]
        assert 1 <= len(one.strikes) <= MOST
        assert fractions == sorted(fractions)
        assert all(0 <= fraction <= 0.9 for fraction in fractions)


def test_every_kind_both_servers_and_all_labels_come_up() -> None:
    assert {strike.kind for one in PLANS for strike in one.strikes} == set(FAULTS)
    assert {one.vendor for one in PLANS} == {"postgresql", "mysql"}
    assert {label for one in PLANS for label in one.labels} == {
        "green",
        "red",
        "torture.test_dying",
        "torture.test_hanging",
    }


def test_no_round_loses_a_test_as_often_as_makes_it_given_up() -> None:
    for one in PLANS:
        assert sum(BY_NAME[strike.kind].losing for strike in one.strikes) <= MOST_LOSING


def test_a_kind_that_may_come_once_comes_once() -> None:
    # Given
    kinds = [Kind("kill", once=True), Kind("cut")]
    # When
    plans = [plan(seed, kinds, workers=3) for seed in range(100)]
    # Then
    assert all([strike.kind for strike in one.strikes].count("kill") <= 1 for one in plans)
    assert any([strike.kind for strike in one.strikes].count("cut") > 1 for one in plans)


def test_a_hanging_test_is_never_in_a_round_in_which_tests_may_stand_still() -> None:
    hanging = [one for one in PLANS if one.hangs]
    assert hanging
    assert not any(BY_NAME[strike.kind].stalling for one in hanging for strike in one.strikes)


def test_cuts_strike_the_worker_with_a_network_of_its_own() -> None:
    cuts = [strike for one in PLANS for strike in one.strikes if strike.kind.startswith("cut-")]
    others = [strike for one in PLANS for strike in one.strikes if strike.kind == "power-off"]
    assert {strike.worker for strike in cuts} == {REMOTE}
    assert {strike.worker for strike in others} == {0, 1, 2}


def test_without_kinds_there_is_no_round() -> None:
    with pytest.raises(ValueError, match="no kind of fault is left"):
        plan(1, [], workers=3)


def test_what_is_pending_is_a_kind() -> None:
    assert set(FAULTS) >= PENDING


def test_with_mixed_brokers_every_third_seed_is_on_rabbitmq_with_either_database() -> None:
    # Given
    seeds = [seed for seed in range(60) if broker_of(seed, "mixed") == "rabbitmq"]
    # Then
    assert len(seeds) == 20
    assert {plan(seed, KINDS, workers=3).vendor for seed in seeds} == {"postgresql", "mysql"}
    assert {broker_of(seed, "rabbitmq") for seed in range(6)} == {"rabbitmq"}


def test_the_order_of_seeds_changes_the_broker_seldom_and_loses_none() -> None:
    # Given
    seeds = list(range(5, 105))
    # When
    brokers = [broker_of(seed, "mixed") for seed in order(seeds, "mixed")]
    # Then
    assert sorted(order(seeds, "mixed")) == seeds
    assert sum(one != other for one, other in pairwise(brokers)) == 4
    assert set(brokers[:30]) == {"redis", "rabbitmq"}
    assert order(seeds, "redis") == seeds


def test_a_kind_of_one_broker_is_never_chosen_for_the_other() -> None:
    # Given
    by_broker = {
        broker: {kind.name for kind in choose([], remote=True, broker=broker)}
        for broker in ("redis", "rabbitmq")
    }
    # Then
    assert by_broker["redis"] ^ by_broker["rabbitmq"] == {
        name for name, fault in FAULTS.items() if fault.broker
    }
    assert "rabbitmq-purge" not in by_broker["redis"]
    assert "broker-purge" not in by_broker["rabbitmq"]
