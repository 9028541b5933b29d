"""The summary by kind of fault."""

from __future__ import annotations

from tests.chaos.table import Outcome, Struck, recovery_problems, rows, table


def outcome(
    *strikes: Struck, seed: int = 1, problems: tuple[str, ...] = (), reruns: int = 0
) -> Outcome:
    return Outcome(seed, 10.0, problems, strikes, reruns)


def kill(recovery: float | None, *, hit: bool = True) -> Struck:
    return Struck("kill", hit, recovery, 4.0)


def test_rounds_strikes_and_failures_are_counted_by_kind() -> None:
    # Given
    rounds = [
        outcome(kill(3.0), kill(5.0), reruns=4),
        outcome(kill(None, hit=False), Struck("cut", True, 1.0, 4.0), problems=("lost",)),
    ]
    # When
    found = rows(rounds)
    # Then
    assert list(found) == ["cut", "kill"]
    assert (
        found["kill"].rounds,
        found["kill"].failed,
        found["kill"].missed,
        found["kill"].reruns,
    ) == (2, 1, 1, 4)
    assert found["kill"].recoveries == [3.0, 5.0]


def test_the_table_has_a_line_per_kind_with_median_and_worst() -> None:
    # When
    lines = table(
        [outcome(kill(3.0)), outcome(kill(5.0)), outcome(Struck("idle", True, None, 10.0))]
    )
    # Then
    assert lines[0].split()[:2] == ["kind", "rounds"]
    assert lines[1].split() == ["idle", "1", "0", "0", "0", "0", "0", "-", "-", "12.0/25.0"]
    assert lines[2].split() == ["kill", "2", "0", "0", "2", "0", "0", "4.0", "5.0", "4.8/13.0"]


def test_recoveries_above_the_bar_are_named() -> None:
    assert recovery_problems([outcome(kill(4.8)), outcome(kill(4.8)), outcome(kill(13.0))]) == []
    assert recovery_problems([outcome(kill(4.9))]) == ["kill: median recovery 4.9 s, bar 4.8 s"]
    assert recovery_problems([outcome(kill(1.0)), outcome(kill(1.0)), outcome(kill(13.1))]) == [
        "kill: worst recovery 13.1 s, bar 13.0 s",
    ]
