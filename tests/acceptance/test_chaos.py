"""Two short rounds of the chaos harness; `python -m tests.chaos` plays the long ones."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.checks import Debts
from tests.chaos.scene import can_make_hosts, scene
from tests.chaos.session import Session, choose

SEEDS = (134, 18)
#: One of each part of the scene; none that leaves databases to be collected, which takes the better
#: part of a minute.
KINDS = (
    "kill-testprocess",
    "kill-child",
    "store-client-kill",
    "store-script-flush",
    "store-maxmemory",
    "broker-purge",
    "broker-duplicates",
    "dispatcher-stop",
)


def test_faults_in_the_middle_of_a_run_cost_no_verdict_and_leave_nothing(tmp_path: Path) -> None:
    # Given
    remote = can_make_hosts()
    kinds = {"redis": choose(KINDS, remote=remote)}
    with scene(lease=4.0, vendors=("postgresql",), remote=remote) as made:
        session = Session(
            made,
            kinds,
            f"python -m tests.chaos --kinds {','.join(KINDS)}",
            tmp_path,
            debts=Debts(60.0),
        )
        # When
        for seed in SEEDS:
            session.play(seed)
        session.settle()
    # Then
    assert [outcome.problems for outcome in session.outcomes if outcome.problems] == []
    assert any(struck.hit for outcome in session.outcomes for struck in outcome.strikes)
