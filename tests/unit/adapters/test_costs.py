"""Clone or heal: what was measured decides."""

from __future__ import annotations

from dct_celery.adapters.databases.costs import Costs


def test_nothing_is_known_before_both_were_measured() -> None:
    # Given
    costs = Costs()
    costs.cloned("one", 1.0)
    costs.healed("two", 0.1)
    # Then
    assert costs.heals_cheaper("one") is None
    assert costs.heals_cheaper("two") is None


def test_the_cheaper_way_is_taken_and_newer_measurements_weigh_more() -> None:
    # Given
    costs = Costs()
    costs.cloned("one", 0.1)
    costs.healed("one", 0.05)
    assert costs.heals_cheaper("one")
    # When
    for _ in range(3):
        costs.healed("one", 0.2)
    # Then
    assert not costs.heals_cheaper("one")
