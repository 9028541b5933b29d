"""Claims about `core.databases.garbage`.

Nothing unmarked is dropped, nothing in use is dropped, and everything else is dropped in the end.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.databases.garbage import Decision, judge, surplus
from dct_celery.core.databases.marks import KINDS, Found, Mark
from dct_celery.core.databases.names import REGISTRY, clone_name, template_name

NOW = 1_700_000_000
DAY = 86_400


def verdict(found: Found, *, used: tuple[str, ...] = (), **known: Any) -> Decision:
    """A situation in which no owner is alive, nothing locked and nothing known, unless given."""
    facts: dict[str, Any] = {
        "alive": (),
        "locked": (),
        "templates": (),
        "dead_before": (),
        "now": NOW,
    }
    return judge(found, **{**facts, **known}, in_use=used.__contains__)


def clone(**fields: Any) -> Found:
    return Found(
        "test_clone",
        Mark("clone", **{"owner": "o1", "run": "run-one", "worker": "a@host", **fields}),
    )


class TestUnmarked:
    def test_ten_thousand_names_without_a_mark_are_all_left(self) -> None:
        # Given: names as we make them, names as others do, and everything that could count against
        # them
        rng = random.Random(7)
        tokens = [f"{rng.getrandbits(64):016x}" for _ in range(10_000)]
        names = [
            (
                clone_name(f"worker-{token[:4]}", n % 9, f"run-{token}", "default", n),
                template_name(token, f"alias{n % 7}", flushed=n % 2 == 0),
                f"test_{token}",
                f"test_shop_{n}",
                f"shop_{token}",
            )[n % 5]
            for n, token in enumerate(tokens)
        ]

        # When
        drops = [
            name
            for name in names
            if verdict(Found(name, None), dead_before={name}, now=NOW * 2).drop
        ]

        # Then
        assert len(set(names)) == 10_000
        assert drops == []

    @given(st.text(), st.integers(0, 2**40), st.booleans())
    def test_whatever_the_name_and_the_time(self, name: str, now: int, known: bool) -> None:
        assert not verdict(Found(name, None), dead_before={name} if known else (), now=now).drop

    def test_the_reason_is_given(self) -> None:
        assert verdict(Found("test_shop", None)) == Decision(False, "carries no mark of ours")
        assert verdict(Found("test_shop", None, void="was renamed")) == Decision(
            False, "was renamed"
        )

    @given(st.text().filter(lambda text: not text.startswith("test_")), st.sampled_from(KINDS))
    def test_a_mark_does_not_make_a_foreign_name_ours(self, name: str, kind: str) -> None:
        assert not verdict(Found(name, Mark(kind, expires=1), born=True), dead_before={name}).drop

    def test_the_registry_is_never_dropped(self) -> None:
        assert not verdict(Found(REGISTRY, Mark("clone")), dead_before={REGISTRY}).drop


class TestUnfinished:
    BORN = Found("test_dct_t_1", None, born=True)
    BUILDING = Found("test_dct_t_1", Mark("building", owner="o1", run="run-one", worker="a@host"))

    @pytest.mark.parametrize("found", [BORN, BUILDING])
    def test_it_is_left_while_its_lock_is_held(self, found: Found) -> None:
        assert verdict(found, locked={found.name}, dead_before={found.name}).reason.startswith(
            "is being made"
        )
        assert not verdict(found, locked={found.name}, dead_before={found.name}).drop

    def test_it_is_left_while_its_owner_is_alive(self) -> None:
        assert verdict(self.BUILDING, alive={"o1"}, dead_before={"test_dct_t_1"}) == Decision(
            False, "is being made by run run-one on worker a@host"
        )

    @pytest.mark.parametrize("found", [BORN, BUILDING])
    def test_it_must_be_found_dead_twice(self, found: Found) -> None:
        assert verdict(found) == Decision(
            False, "may still be being built; will be checked again", dead=True
        )
        assert verdict(found, dead_before={found.name}).drop


class TestClone:
    def test_it_is_left_while_its_owner_is_alive(self) -> None:
        assert verdict(clone(expires=1), alive={"o1"}, dead_before={"test_clone"}) == Decision(
            False, "in use by run run-one on worker a@host"
        )

    def test_it_must_be_found_dead_twice(self) -> None:
        assert verdict(clone(), alive={"o2"}) == Decision(
            False, "its owner is gone; will be checked again", dead=True
        )
        assert verdict(clone(), alive={"o2"}, dead_before={"test_clone"}) == Decision(
            True, "its owner is gone: made by run run-one on worker a@host", dead=True
        )

    def test_without_an_owner_it_is_garbage(self) -> None:
        assert verdict(clone(owner=""), alive={""}, dead_before={"test_clone"}).drop


class TestTemplate:
    @pytest.mark.parametrize("kind", ["template", "flushed"])
    def test_it_is_dropped_when_its_time_is_over_and_it_is_not_in_use(self, kind: str) -> None:
        # Given
        found = Found("test_dct_t_1", Mark(kind, owner="o1", used=NOW - 15 * DAY, expires=NOW))

        # Then: whether its maker lives does not matter
        assert verdict(found, alive={"o1"}) == Decision(True, "unused for 15 days")
        assert verdict(found, used=("test_dct_t_1",)) == Decision(
            False, "in use, though its time is over"
        )

    def test_it_is_left_before_its_time_is_over(self) -> None:
        assert verdict(Found("test_dct_t_1", Mark("template", expires=NOW + 1))).reason == (
            "kept for later runs, less than an hour more"
        )

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(DAY, "1 day"), (3600, "1 hour"), (2 * DAY - 1, "1 day"), (7200, "2 hours")],
    )
    def test_ages_are_whole_days_or_hours(self, seconds: int, words: str) -> None:
        assert verdict(
            Found("test_dct_t_1", Mark("template", expires=NOW + seconds))
        ).reason.endswith(f", {words} more")

    def test_without_an_end_it_stays(self) -> None:
        assert verdict(Found("test_dct_t_1", Mark("template"))) == Decision(
            False, "kept for later runs"
        )


class TestIdle:
    IDLE = Found("test_idle", Mark("idle", template="test_dct_t_1", expires=NOW + 3 * DAY))

    def test_it_is_left_with_its_template(self) -> None:
        assert verdict(self.IDLE, templates={"test_dct_t_1"}) == Decision(
            False, "kept for later runs, 3 days more"
        )

    def test_it_goes_with_its_template(self) -> None:
        assert verdict(self.IDLE, templates={"test_dct_t_2"}) == Decision(
            True, "its template test_dct_t_1 is gone"
        )

    def test_it_goes_when_its_time_is_over(self) -> None:
        assert verdict(self.IDLE, templates={"test_dct_t_1"}, now=NOW + 3 * DAY).drop


MARKS = st.builds(
    Mark,
    st.sampled_from(KINDS),
    owner=st.sampled_from(["", "o1", "o2"]),
    template=st.sampled_from(["", "test_name_1"]),
    used=st.integers(0, NOW),
    expires=st.integers(0, 2 * NOW),
)
FOUND = st.builds(
    Found, st.sampled_from([f"test_name_{n}" for n in range(9)]), st.none() | MARKS, st.booleans()
)
NAMES = st.sets(st.sampled_from([f"test_name_{n}" for n in range(9)]))


@given(FOUND, st.sets(st.sampled_from(["o1", "o2"])), NAMES, NAMES, NAMES)
def test_nothing_in_use_is_dropped_whatever_else_is_known(
    found: Found, alive: set[str], used: set[str], locked: set[str], dead: set[str]
) -> None:
    # When
    decision = verdict(found, used=tuple(used), alive=alive, locked=locked, dead_before=dead)

    # Then
    if decision.drop:
        mark = found.mark
        assert found.ours
        assert (
            mark is None or mark.kind in ("template", "flushed", "idle") or mark.owner not in alive
        )
        assert (
            mark is None
            or mark.kind not in ("template", "flushed")
            or (found.name not in used and mark.expires <= NOW)
        )
        assert (mark is not None and mark.kind not in ("building", "clone")) or found.name in dead
        assert (mark is not None and mark.kind != "building") or found.name not in locked


class TestSurplus:
    @staticmethod
    def kept(
        name: str, used: int, kind: str = "template", template: str = "", megabytes: int = 10
    ) -> Found:
        return Found(
            f"test_{name}",
            Mark(kind, template=f"test_{template}" if template else "", used=used),
            bytes=megabytes * 10**6,
        )

    @staticmethod
    def names(
        *found: Found, kept: int = 99, megabytes: int = 10**6, used: tuple[str, ...] = ()
    ) -> list[str]:
        return surplus(found, kept=kept, megabytes=megabytes, in_use=used.__contains__)

    def test_within_the_budget_nothing_goes(self) -> None:
        assert self.names(self.kept("one", 1), self.kept("two", 2), kept=2, megabytes=20) == []

    def test_the_least_recently_used_go_first(self) -> None:
        # Given
        found = [self.kept("two", 2), self.kept("one", 1), self.kept("three", 3)]

        # Then
        assert self.names(*found, kept=1) == ["test_one", "test_two"]
        assert self.names(*found, megabytes=29) == ["test_one"]
        assert self.names(*found, kept=0) == ["test_one", "test_two", "test_three"]

    def test_what_is_in_use_counts_but_stays(self) -> None:
        # Given
        found = [self.kept("one", 1), self.kept("two", 2), self.kept("three", 3)]

        # Then
        assert self.names(*found, kept=2, used=("test_one",)) == ["test_two"]
        assert self.names(*found, kept=0, used=("test_one", "test_three")) == ["test_two"]

    def test_an_idle_clone_goes_before_and_with_its_template(self) -> None:
        # Given
        idle, late = self.kept("idle", 1, "idle", "one"), self.kept("late", 9, "idle", "one")
        template = self.kept("one", 1)

        # Then
        assert self.names(template, idle, late, self.kept("two", 2), kept=3) == ["test_idle"]
        assert self.names(template, idle, late, self.kept("two", 2), kept=2) == [
            "test_idle",
            "test_late",
            "test_one",
        ]

    def test_what_is_not_kept_for_later_neither_counts_nor_goes(self) -> None:
        # Given
        others = [
            Found("test_c", Mark("clone"), bytes=10**12),
            Found("test_u", None),
            Found("test_b", Mark("building")),
        ]

        # Then
        assert self.names(*others, self.kept("one", 1), kept=1, megabytes=10) == []
        assert self.names(*others, Found("shop", Mark("template")), kept=0) == []

    @given(st.lists(FOUND, unique_by=lambda found: found.name), NAMES, st.integers(0, 9))
    def test_what_goes_is_ours_and_not_in_use_and_the_rest_fits(
        self, found: list[Found], used: set[str], kept: int
    ) -> None:
        # When
        gone = self.names(*found, kept=kept, used=tuple(used))

        # Then
        counted = {
            one.name: one
            for one in found
            if one.mark and one.mark.kind in ("template", "flushed", "idle")
        }
        assert len(gone) == len(set(gone))
        assert set(gone) <= set(counted)
        held = {
            name
            for name, one in counted.items()
            if name in used and one.mark and one.mark.kind != "idle"
        }
        assert not held & set(gone)
        assert len(counted) - len(gone) <= max(kept, len(held))
