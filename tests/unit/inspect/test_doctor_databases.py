"""Claims about `inspect.doctor_databases`: what is wrong is found, named and has its fix; what is
right is one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import count

import pytest

from dct_celery.core.databases.marks import Mark
from dct_celery.errors import DatabaseError, StoreUnavailable
from dct_celery.inspect import doctor_databases
from dct_celery.inspect.doctor_databases import Finding
from dct_celery.security.guards import Configured
from dct_celery.settings import Settings
from dct_celery.wire.messages import Loaded
from tests.support.memory_database import MemoryServer

SHOP = Configured("default", "postgresql", "shop", "test_shop", False, "db", "", True)


def unresolved(hosts: Iterable[str]) -> dict[str, set[str]]:
    return {}


def loaded(*configured: Configured, **facts: str) -> Loaded:
    return Loaded(
        155,
        "d" * 64,
        0.5,
        {},
        [],
        configured=[asdict(one) for one in configured],
        facts={"python": "3.12.1", "django": "5.2", **facts},
    )


def database(
    server: MemoryServer, *, slots: int = 0, workers: int = 0, measure: bool = False
) -> list[Finding]:
    ticks = count(step=0.04)
    findings = lambda: doctor_databases.database(  # noqa: E731
        "default",
        server,
        slots=slots,
        workers=workers,
        measure=measure,
        clock=lambda: next(ticks),
        owner="o9",
    )
    return list(doctor_databases.attempt("database default", findings))


def bad(findings: Iterator[Finding] | list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != "ok"]


def said(findings: list[Finding]) -> str:
    return "\n".join(f"{finding.level} {finding.text}" for finding in findings)


class TestProject:
    def test_a_sound_project_is_two_lines(self) -> None:
        assert list(doctor_databases.project(loaded(SHOP), Settings(), unresolved)) == [
            Finding("ok", "settings", "155 tests in 0.5 s, Python 3.12.1, Django 5.2"),
            Finding("ok", "guards", "nothing looks like production: default (shop)"),
        ]

    def test_a_project_without_django_has_no_version_of_it(self) -> None:
        # Given
        plain = replace(loaded(SHOP), facts={"python": "3.12.1"})
        # When
        settings, _ = doctor_databases.project(plain, Settings(), unresolved)
        # Then
        assert settings.text == "155 tests in 0.5 s, Python 3.12.1"

    def test_a_guard_that_refuses_is_a_failure_with_its_fix(self) -> None:
        # When
        (finding,) = bad(
            doctor_databases.project(
                loaded(replace(SHOP, name="prod_shop")), Settings(), unresolved
            )
        )

        # Then
        assert (finding.level, finding.what) == ("failed", "guards")
        assert (
            finding.text
            == "database 'default': NAME 'prod_shop' looks like production (the word 'prod')"
        )
        assert finding.fix.endswith("or pass --allow-database prod_shop if it is not production")

    def test_the_settings_decide_what_is_production(self) -> None:
        # Given
        project = loaded(replace(SHOP, name="prod_shop"))

        # Then
        assert (
            bad(doctor_databases.project(project, Settings(allow_database=("prod_*",)), unresolved))
            == []
        )
        assert (
            bad(
                doctor_databases.project(
                    loaded(SHOP), Settings(deny_database=("shop",)), unresolved
                )
            )[0].level
            == "failed"
        )
        assert (
            bad(doctor_databases.project(loaded(SHOP), Settings(deny_db_host=("db",)), unresolved))[
                0
            ].level
            == "failed"
        )

    def test_an_allowed_name_is_reported_as_allowed(self) -> None:
        # Given
        names = {"default": "shop_production", "crm": "crm", "legacy": "shop_live"}
        rows = [
            replace(SHOP, alias=alias, name=name, used=alias != "legacy", host=alias)
            for alias, name in names.items()
        ]

        # When
        _, *guards = doctor_databases.project(
            loaded(*rows), Settings(allow_database=("shop_prod*",)), unresolved
        )

        # Then
        assert [(finding.level, finding.text) for finding in guards] == [
            ("ok", "default (shop_production) looks like production (the word 'production'); "
             "--allow-database says that it is not"),
            (
                "ok",
                "legacy (shop_live) looks like production (the word 'live'); no test uses it, and"
                " it is on another server",
            ),
            ("ok", "nothing else looks like production: crm (crm)"),
        ]  # fmt: skip

    def test_what_is_only_warned_about_is_a_warning(self) -> None:
        assert [
            finding.level
            for finding in doctor_databases.project(
                loaded(SHOP, debug="true"), Settings(), unresolved
            )
        ] == [
            "ok",
            "warning",
            "ok",
        ]


class TestDatabase:
    def test_a_sound_server_is_three_lines(self) -> None:
        assert (
            said(database(MemoryServer(), slots=2, workers=1))
            == "ok memory at memory:0 answers and lets us create and drop databases\n"
            "ok 100 connections are free, 2 slots may want 10\n"
            "ok template cache: 0 templates, 0 idle clones, 0 MB"
        )

    def test_one_that_does_not_answer_is_a_failure_with_the_fix(self) -> None:
        # Given
        server = MemoryServer()
        server.world.down = True

        # Then
        assert database(server) == [
            Finding("failed", "database default", "the server cannot be reached", exit_code=7)
        ]
        error = DatabaseError("role 'a' may not create databases; no more; ALTER ROLE a CREATEDB")
        assert doctor_databases.blamed("x", error) == Finding(
            "failed", "x", "role 'a' may not create databases; no more", "ALTER ROLE a CREATEDB", 7
        )

    def test_what_its_adapter_warns_of_is_a_warning(self) -> None:
        # Given
        server = MemoryServer()
        server.said = ["fsync is on; set fsync = off", "slow"]

        # Then
        assert bad(database(server)) == [
            Finding("warning", "database default", "fsync is on; set fsync = off"),
            Finding("warning", "database default", "slow"),
        ]

    @pytest.mark.parametrize(
        ("room", "level"),
        [(10, "ok"), (9, "warning"), (3, "warning"), (2, "failed"), (0, "failed")],
    )
    def test_the_slots_of_the_pool_must_fit(self, room: int, level: str) -> None:
        # Given
        server = MemoryServer()
        server.room = room

        # Then
        (finding,) = [
            finding
            for finding in database(server, slots=2, workers=1)
            if "connections" in finding.text
        ]
        assert finding.level == level
        assert bool(finding.fix) == (level != "ok")

    def test_without_a_worker_any_room_will_do(self) -> None:
        server = MemoryServer()
        server.room = 1
        assert bad(database(server)) == []

    def test_the_cache_is_counted_and_orphans_and_foreign_databases_are_named(self) -> None:
        # Given
        server = MemoryServer()
        world = server.world
        world.put("test_tpl", Mark("template", expires=1))
        world.put("test_flushed", Mark("flushed"))
        world.put("test_idle", Mark("idle", owner="gone", template="test_tpl"))
        world.put("test_orphan", Mark("clone", owner="gone"))
        world.put("test_alive", Mark("clone", owner="o1"))
        server.liveness_lock("o1")
        world.create("test_half")
        world.create("test_locked")
        world.locks.add("test_locked")
        world.foreign("test_shop")

        # When
        text = said(database(server))

        # Then
        assert "ok template cache: 2 templates, 1 idle clone, 9 MB" in text
        assert "warning 2 databases of runs that are gone: test_half, test_orphan\n" in text
        assert "ok 1 database named test_… without our mark, left alone: test_shop" in text

    def test_sqlite_has_no_server(self) -> None:
        # Given
        server = MemoryServer()
        server.vendor = "sqlite"
        server.world.down = True

        # Then
        assert [finding.level for finding in database(server)] == ["ok"]


class TestMeasurement:
    def test_the_largest_template_is_cloned_and_nothing_is_left(self) -> None:
        # Given
        server = MemoryServer()
        server.world.put("test_small", Mark("template"))
        server.world.put("test_large", Mark("template"), rows=range(7))

        # When
        finding = database(server, measure=True)[-1]

        # Then
        assert finding.text == "clone time: 40 ms for test_large of 7 MB, median of 3"
        assert (server.stats.cloned, server.stats.dropped) == (3, 3)
        assert set(server.world.databases) == {"test_small", "test_large"}
        assert server.world.liveness == {}

    def test_meanwhile_neither_template_nor_clones_are_garbage(self) -> None:
        # Given
        seen: list[tuple[bool, set[str]]] = []

        class Watched(MemoryServer):
            def drop(self, name: str) -> None:
                seen.append((self.in_use("test_tpl"), self.alive(["o9"])))
                super().drop(name)

        server = Watched()
        server.world.put("test_tpl", Mark("template"))

        # When
        database(server, measure=True)

        # Then
        assert seen == [(True, {"o9"})] * 3

    def test_without_a_template_the_fix_is_named(self) -> None:
        assert database(MemoryServer(), measure=True)[-1].fix == "run some test of it first"

    def test_without_being_asked_nothing_is_made(self) -> None:
        server = MemoryServer()
        server.world.put("test_tpl", Mark("template"))
        database(server)
        assert server.stats.cloned == 0


class TestAttempt:
    def test_a_store_that_cannot_be_reached_ends_its_part_alone(self) -> None:
        # Given
        def findings() -> Iterator[Finding]:
            yield Finding("ok", "store", "one")
            raise StoreUnavailable(
                "the store cannot be reached; start it, set --store, or use --local"
            )

        # Then
        assert list(doctor_databases.attempt("store", findings))[1] == Finding(
            "failed",
            "store",
            "the store cannot be reached",
            "start it, set --store, or use --local",
            7,
        )
