"""Claims about `worker.databases.garbage_collector`: one collection drops what no one will
miss, and no collection ends at one database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dct_celery.core.databases.marks import Mark
from dct_celery.errors import DatabaseError
from dct_celery.worker.databases.garbage_collector import (
    GRACE_SECONDS,
    Collector,
    Result,
    Swept,
    sweep,
)
from tests.support.memory_database import MemoryDatabases, MemoryServer

CLONE = Mark("clone", owner="o1", run="run-one", worker="a@host", template="test_tpl")


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


def actions(results: list[Result]) -> dict[str, str]:
    return {result.name: result.action for result in results}


def template(server: MemoryServer, name: str = "test_tpl", **fields: Any) -> None:
    now = server.world.time
    server.world.put(name, Mark("template", **{"used": now, "expires": now + 1000, **fields}))


class TestDead:
    def test_a_clone_without_owner_is_dropped_by_the_second_collection(
        self, server: MemoryServer
    ) -> None:
        # Given
        collector = Collector()
        server.world.put("test_one", CLONE)

        # When
        first = collector.collect(server)
        server.world.time += GRACE_SECONDS
        second = collector.collect(server)

        # Then
        assert first == [Result("test_one", "again", "its owner is gone; will be checked again")]
        assert second == [
            Result("test_one", "dropped", "its owner is gone: made by run run-one on worker a@host")
        ]
        assert server.world.databases == {}

    def test_a_second_collection_too_early_does_not_count(self, server: MemoryServer) -> None:
        # Given
        collector = Collector()
        server.world.put("test_one", CLONE)

        # When
        for _ in range(3):
            collector.collect(server)
            server.world.time += GRACE_SECONDS // 3 - 1

        # Then
        assert "test_one" in server.world.databases

    def test_a_clock_that_was_set_makes_nothing_old(self, server: MemoryServer) -> None:
        # Given
        collector = Collector()
        server.world.put("test_one", CLONE)
        collector.collect(server)

        # When
        server.world.time -= 10_000
        collector.collect(server)
        server.world.time += GRACE_SECONDS - 1
        collector.collect(server)

        # Then
        assert "test_one" in server.world.databases
        server.world.time += 1
        assert actions(collector.collect(server)) == {"test_one": "dropped"}

    def test_an_owner_that_came_back_in_between_saves_it(self, server: MemoryServer) -> None:
        # Given
        collector = Collector()
        server.world.put("test_one", CLONE)
        collector.collect(server)
        sign = server.liveness_lock("o1")
        server.world.time += GRACE_SECONDS
        assert actions(collector.collect(server)) == {"test_one": "left"}

        # When: gone again, the count starts again
        sign.close()
        server.world.time += GRACE_SECONDS

        # Then
        assert actions(collector.collect(server)) == {"test_one": "again"}

    def test_another_mark_under_the_same_name_is_another_database(
        self, server: MemoryServer
    ) -> None:
        # Given
        collector = Collector()
        server.world.put("test_tpl", Mark("building", owner="o1"))
        collector.collect(server)

        # When
        server.world.put("test_tpl", Mark("building", owner="o2"))
        server.world.time += GRACE_SECONDS

        # Then
        assert actions(collector.collect(server)) == {"test_tpl": "again"}

    def test_what_a_killed_builder_left_goes_and_what_is_being_built_stays(
        self, server: MemoryServer
    ) -> None:
        # Given
        collector = Collector()
        server.world.create("test_born")
        server.world.create("test_locked")
        server.announce("test_said", Mark("building", owner="o1"))
        server.world.create("test_said")
        server.world.locks.add("test_locked")
        collector.collect(server)

        # When
        server.world.time += GRACE_SECONDS
        results = collector.collect(server)

        # Then
        assert actions(results) == {
            "test_born": "dropped",
            "test_said": "dropped",
            "test_locked": "left",
        }
        assert set(server.world.databases) == {"test_locked"}
        assert server.world.locks == {"test_locked"}

    def test_after_a_crash_of_everything_two_collections_leave_no_orphan(
        self, server: MemoryServer
    ) -> None:
        # Given: a run in full swing
        collector = Collector()
        sign = server.liveness_lock("o1")
        sign.hold("test_tpl")
        template(server)
        for number in range(8):
            server.clone("test_tpl", f"test_clone_{number}", CLONE)
        server.world.create("test_half")
        assert set(actions(collector.collect(server)).values()) == {"left", "again"}

        # When
        server.world.crash()
        for _ in range(2):
            collector.collect(server)
            server.world.time += GRACE_SECONDS
        collector.collect(server)

        # Then
        assert set(server.world.databases) == {"test_tpl"}


class TestForeign:
    def test_what_carries_no_mark_is_left_for_ever(self, server: MemoryServer) -> None:
        # Given
        collector = Collector()
        server.world.foreign("test_shop")
        server.world.foreign("shop")

        # When
        for _ in range(3):
            server.world.time += 10**9
            results = collector.collect(server, budget=(0, 0))

        # Then
        assert results == [Result("test_shop", "left", "carries no mark of ours", 1_000_000)]
        assert set(server.world.databases) == {"test_shop", "shop"}


class TestKept:
    def test_one_collection_drops_an_expired_template_with_its_idle_clones(
        self, server: MemoryServer
    ) -> None:
        # Given
        template(server, expires=server.world.time)
        server.world.put(
            "test_idle", Mark("idle", template="test_tpl", expires=server.world.time + 1000)
        )

        # Then
        assert actions(Collector().collect(server)) == {
            "test_idle": "dropped",
            "test_tpl": "dropped",
        }
        assert server.world.databases == {}

    def test_what_a_run_holds_stays_whatever_its_age_and_the_budget(
        self, server: MemoryServer
    ) -> None:
        # Given
        template(server, expires=1)
        server.liveness_lock("o1").hold("test_tpl")

        # Then
        assert actions(Collector().collect(server, budget=(0, 0))) == {"test_tpl": "left"}

    def test_beyond_the_budget_the_least_recently_used_go(self, server: MemoryServer) -> None:
        # Given: three of three megabytes each
        for number in (1, 2, 3):
            template(server, f"test_tpl_{number}", used=number)

        # Then
        assert (
            actions(Collector().collect(server, budget=(99, 8), dry_run=True))["test_tpl_1"]
            == "dropped"
        )
        assert actions(Collector().collect(server, budget=(1, 99))) == {
            "test_tpl_1": "dropped", "test_tpl_2": "dropped", "test_tpl_3": "left",
        }  # fmt: skip

    def test_what_is_dropped_anyway_does_not_count_for_the_budget(
        self, server: MemoryServer
    ) -> None:
        # Given
        template(server, "test_old", used=5, expires=1)
        template(server, "test_new", used=1)

        # Then
        assert actions(Collector().collect(server, budget=(1, 99))) == {
            "test_old": "dropped",
            "test_new": "left",
        }


class TestDropping:
    def test_a_dry_run_drops_nothing_and_lists_what_would_go(self, server: MemoryServer) -> None:
        # Given
        template(server, expires=1)

        # Then
        assert actions(Collector().collect(server, dry_run=True)) == {"test_tpl": "dropped"}
        assert "test_tpl" in server.world.databases

    def test_a_dry_run_knows_what_is_being_built_too(self, server: MemoryServer) -> None:
        # Given
        collector = Collector()
        server.world.create("test_locked")
        server.world.locks.add("test_locked")
        collector.collect(server, dry_run=True)

        # When
        server.world.time += GRACE_SECONDS

        # Then
        assert collector.collect(server, dry_run=True) == [
            Result("test_locked", "left", "is being made")
        ]

    def test_one_that_refuses_is_a_result_and_the_others_go(self, server: MemoryServer) -> None:
        # Given
        for name in ("test_one", "test_two", "test_three"):
            template(server, name, expires=1)
        server.world.stubborn.add("test_two")

        # When
        results = Collector().collect(server)

        # Then
        assert actions(results) == {
            "test_one": "dropped",
            "test_two": "failed",
            "test_three": "dropped",
        }
        assert [r.reason for r in results if r.action == "failed"] == [
            "test_two is being accessed by other users"
        ]
        assert set(server.world.databases) == {"test_two"}

    def test_a_server_that_cannot_be_asked_is_an_error(self, server: MemoryServer) -> None:
        server.world.down = True
        with pytest.raises(DatabaseError):
            Collector().collect(server)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (
                lambda world: world.put("test_tpl", Mark("template", used=7)),
                "changed in the meantime",
            ),
            (lambda world: world.databases.clear(), "is gone already"),
            (lambda world: world.locks.add("test_tpl"), "is being made"),
            (lambda world: MemoryServer(world).liveness_lock("x").hold("test_tpl"), "in use"),
        ],
    )
    def test_what_changed_since_it_was_listed_is_left(
        self, change: Callable[[MemoryDatabases], object], reason: str
    ) -> None:
        # Given: another worker is quicker, between the listing and the drop
        class Raced(MemoryServer):
            def locked(self, name: str) -> bool:
                change(self.world)
                return super().locked(name)

        server = Raced()
        template(server, expires=1)

        # Then
        assert Collector().collect(server) == [Result("test_tpl", "left", reason)]

    def test_an_owner_that_came_back_after_the_listing_saves_its_clone(self) -> None:
        # Given
        class Raced(MemoryServer):
            def alive(self, owners: Any) -> set[str]:
                seen = super().alive(owners)
                self.liveness_lock("o1").renew()
                return seen

        server, collector = Raced(), Collector()
        server.world.put("test_one", CLONE)
        server.world.time += GRACE_SECONDS
        collector._dead[("test_one", CLONE.line("test_one"))] = 0

        # Then
        assert collector.collect(server) == [Result("test_one", "left", "its owner is back")]

    def test_an_idle_clone_that_was_adopted_after_the_listing_stays(self) -> None:
        # Given
        class Raced(MemoryServer):
            def drop(self, name: str) -> None:
                raise AssertionError("dropped under its adopter")

            def now(self) -> int:
                self.world.put("test_idle", Mark("clone", owner="o1"))
                return super().now()

        server = Raced()
        server.world.put("test_idle", Mark("idle", template="test_gone"))

        # Then
        assert Collector().collect(server) == [
            Result("test_idle", "left", "changed in the meantime")
        ]


class TestSweep:
    """By hand, on all servers of a project."""

    @staticmethod
    def swept(*servers: MemoryServer, **options: Any) -> tuple[list[Swept], list[tuple[int, int]]]:
        waits: list[tuple[int, int]] = []

        def wait(databases: int, seconds: int) -> None:
            waits.append((databases, seconds))
            for server in servers:
                server.world.time += seconds

        return sweep(servers, **{"dry_run": False, "budget": None, "wait": wait, **options}), waits

    def test_where_nothing_is_found_dead_there_is_no_wait(self, server: MemoryServer) -> None:
        # Given
        template(server, expires=1)

        # When
        swept, waits = self.swept(server)

        # Then
        assert [(one.where, actions(list(one.results))) for one in swept] == [
            ("memory at memory:0", {"test_tpl": "dropped"})
        ]
        assert waits == []

    def test_what_is_found_dead_is_checked_twice_and_listed_once(
        self, server: MemoryServer
    ) -> None:
        # Given
        template(server, expires=1)
        server.world.put("test_one", CLONE)
        server.world.foreign("test_shop")

        # When
        (one,), waits = self.swept(server)

        # Then
        assert waits == [(1, GRACE_SECONDS + 1)]
        assert [(result.name, result.action) for result in one.results] == [
            ("test_one", "dropped"), ("test_shop", "left"), ("test_tpl", "dropped"),
        ]  # fmt: skip
        assert set(server.world.databases) == {"test_shop"}

    def test_a_dry_run_lists_the_same_and_drops_nothing(self, server: MemoryServer) -> None:
        # Given
        template(server, expires=1)
        server.world.put("test_one", CLONE)

        # When
        (one,), _ = self.swept(server, dry_run=True)

        # Then
        assert actions(list(one.results)) == {"test_one": "dropped", "test_tpl": "dropped"}
        assert set(server.world.databases) == {"test_one", "test_tpl"}

    def test_a_server_that_does_not_answer_is_named_and_the_others_are_collected(
        self, server: MemoryServer
    ) -> None:
        # Given
        down = MemoryServer()
        down.world.down = True
        template(server, expires=1)

        # When
        (one, two), _ = self.swept(down, server)

        # Then
        assert (one.error, one.results) == ("the server cannot be reached", ())
        assert actions(list(two.results)) == {"test_tpl": "dropped"}
