"""Claims about what `dct doctor` says of store, broker, keys, clocks, workers and this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from dct_celery import __version__
from dct_celery.core.environment import Difference
from dct_celery.inspect import doctor_services
from dct_celery.inspect.doctor_databases import Finding
from dct_celery.ports import WorkerInfo
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.security import signing
from dct_celery.settings import Settings
from tests.support.factories import OTHER_KEY

KEY = "0123456789abcdef" * 2
MB = 2**20
STORE: dict[str, Any] = {
    "redis_version": "7.0",
    "used_memory": 3 * MB,
    "maxmemory": 0,
    "aof_enabled": 0,
}
WORKER = WorkerInfo(
    "a@host", "host", 4, __version__, PROTOCOL_VERSION, signing.key_id(KEY), wall=1000.0,
    about={"python": "3.11.7", "django": "5.2.1", "open_files": "1024"},
)  # fmt: skip
HERE = {"python": "3.11.2", "django": "5.2"}


def said(findings: Iterable[Finding]) -> list[str]:
    return [f"{one.level} {one.text}" for one in findings]


class TestStore:
    def test_a_fit_store_is_three_lines(self) -> None:
        assert said(doctor_services.store("redis://h/0", STORE)) == [
            "ok redis://h/0 answers, version 7.0",
            "ok no key is evicted (noeviction); 3.0 MB are in use without a limit (maxmemory)",
            (
                "ok persistence: no append-only file; after a restart a run is put back from its"
                " dispatcher's journal"
            ),
        ]

    def test_what_it_does_not_report_is_a_warning_with_its_fix(self) -> None:
        # Given
        warning = "the store does not say its maxmemory-policy; make sure that it is noeviction"

        # Then
        assert list(doctor_services.store("redis://h/0", {}, [warning])) == [
            Finding("ok", "store", "redis://h/0 answers, version ?"),
            Finding(
                "warning",
                "store",
                "the store does not say its maxmemory-policy",
                "make sure that it is noeviction",
            ),
        ]

    @pytest.mark.parametrize(("used", "level"), [(70, "ok"), (80, "warning")])
    def test_a_store_that_is_nearly_full_is_warned_about(self, used: int, level: str) -> None:
        _, memory, _ = doctor_services.store(
            "redis://h/0", {**STORE, "used_memory": used * MB, "maxmemory": 100 * MB}
        )
        assert memory.level == level
        assert f"{used} MB are in use of 100 MB (maxmemory)" in memory.text

    def test_a_snapshot_that_failed_is_warned_about(self) -> None:
        # Given: with an append-only file that does not matter
        failed = {**STORE, "rdb_last_bgsave_status": "err"}

        # Then
        assert list(doctor_services.store("redis://h/0", failed))[-1].level == "warning"
        assert (
            list(doctor_services.store("redis://h/0", {**failed, "aof_enabled": 1}))[-1].level
            == "ok"
        )


def test_a_broker_is_named_with_its_version_unless_it_is_the_store() -> None:
    assert (
        doctor_services.broker("amqp://h//", "3.10", 0.004, same=False).text
        == "amqp://h// (version 3.10) carries messages: there and back in 4 ms"
    )
    assert (
        doctor_services.broker("redis://h/0", "", 0.004, same=True).text
        == "the store carries messages: there and back in 4 ms"
    )


class TestSigningKey:
    def test_a_key_that_every_worker_has_is_one_line(self) -> None:
        assert said(doctor_services.signing_key(Settings(signing_key=KEY), [WORKER])) == [
            "ok is set, and the same on every worker"
        ]
        assert said(doctor_services.signing_key(Settings(signing_key=KEY))) == ["ok is set"]

    def test_a_missing_key_is_a_failure_that_says_how_to_make_one_unless_it_is_wanted(self) -> None:
        (missing,), (wanted,) = (
            doctor_services.signing_key(Settings()),
            doctor_services.signing_key(Settings(insecure=True)),
        )
        assert (missing.level, wanted.level) == ("failed", "warning")
        assert "dct keygen" in missing.fix

    def test_a_worker_with_any_of_the_accepted_keys_is_one_of_ours(self) -> None:
        # Given a pool that changes its key
        settings = Settings(signing_key=f"{KEY}\n{'new' * 16}")

        # Then
        assert said(doctor_services.signing_key(settings, [WORKER])) == [
            "ok is set (2 keys are accepted), and the same on every worker"
        ]

    def test_workers_with_another_key_are_a_failure_that_names_them(self) -> None:
        # Given
        other = replace(WORKER, name="b@host", key_id="other")

        # Then
        (finding,) = doctor_services.signing_key(Settings(signing_key=KEY), [WORKER, other])
        assert (finding.level, finding.text) == ("failed", "1 of 2 workers has another one: b@host")

    def test_while_a_pool_changes_its_key_a_worker_that_accepts_ours_has_it(self) -> None:
        # Given: we sign with the new one, and some workers still sign with the old one
        both = Settings(signing_key=f"{KEY} {OTHER_KEY}")
        old = replace(
            WORKER,
            key_id=signing.key_id(OTHER_KEY),
            keys=(signing.key_id(OTHER_KEY), signing.key_id(KEY)),
        )

        # Then
        assert said(doctor_services.signing_key(both, [WORKER, old])) == [
            "ok is set (2 keys are accepted), and the same on every worker"
        ]
        (finding,) = doctor_services.signing_key(both, [replace(old, keys=old.keys[:1])])
        assert finding.level == "failed"

    def test_an_untrusted_worker_has_another_key(self) -> None:
        (finding,) = doctor_services.signing_key(
            Settings(signing_key=KEY), [replace(WORKER, foreign="has a wrong signature")]
        )
        assert finding.level == "failed"


class TestClocks:
    def test_clocks_that_agree_are_one_line(self) -> None:
        # Given
        never: list[WorkerInfo] = []

        # Then
        finding = doctor_services.clocks(
            1001.0, 1000.0, [WORKER, replace(WORKER, wall=0.0)], lambda: never
        )
        assert finding == Finding(
            "ok", "clocks", "this machine, the store and 1 worker agree within 5 s"
        )

    def test_a_clock_that_is_off_is_named_with_its_distance(self) -> None:
        # Given
        ahead, behind = replace(WORKER, wall=1090.0), replace(WORKER, name="b@host", wall=970.0)
        later = [replace(ahead, wall=1091.5), replace(behind, wall=971.5)]

        # Then
        finding = doctor_services.clocks(1010.0, 1000.0, [ahead, behind], lambda: later)
        assert finding.level == "warning"
        assert (
            "this machine is 10 s ahead, a@host is 90 s ahead, b@host is 30 s behind"
            in finding.text
        )

    def test_an_old_beat_is_no_clock_that_is_behind(self) -> None:
        # Given a beat of nine seconds ago
        old = replace(WORKER, wall=991.0)

        # Then: with the next one all is well
        assert (
            doctor_services.clocks(1000.0, 1000.0, [old], lambda: [replace(old, wall=1001.0)]).level
            == "ok"
        )


class TestWorkers:
    def test_each_has_a_line_with_its_versions(self) -> None:
        assert said(doctor_services.workers([WORKER], "ci", HERE)) == [
            "ok 1 worker with 4 slots in pool 'ci'",
            f"ok 4 slots, dct_celery {__version__}, Python 3.11.7, Django 5.2.1",
        ]

    def test_an_empty_pool_is_a_warning(self) -> None:
        (finding,) = doctor_services.workers([], "nightly")
        assert finding.level == "warning"
        assert "'nightly'" in finding.text

    def test_what_a_run_would_refuse_is_a_failure_with_its_fix(self) -> None:
        # Given
        found = [Difference("django is 5.1 on the worker and 5.2 on the dispatcher", "install it")]
        # When
        _, finding = doctor_services.workers([WORKER], "ci", HERE, lambda info: found)
        # Then
        assert (finding.level, finding.fix) == ("failed", "install it")
        assert finding.text.endswith("; it would refuse this project: " + found[0].text)

    def test_where_nothing_would_be_refused_versions_are_not_guessed_at(self) -> None:
        # Given
        other = replace(WORKER, about={**WORKER.about, "django": "4.2.9"})
        # When
        _, finding = doctor_services.workers([other], "ci", HERE, lambda info: [])
        # Then
        assert finding.level == "ok"

    @pytest.mark.parametrize(
        ("worker", "level", "text"),
        [
            (replace(WORKER, version="0.0.1"), "failed", f"; this side is {__version__}"),
            (
                replace(WORKER, backing_off="backs off for 30 s"),
                "warning",
                "; it backs off for 30 s",
            ),
            (
                replace(WORKER, about={**WORKER.about, "django": "4.2.9"}),
                "warning",
                "; here it is Django 5.2",
            ),
            (
                replace(WORKER, about={**WORKER.about, "python": "3.12.1"}),
                "warning",
                "; here it is Python 3.11.2",
            ),
            (
                replace(WORKER, about={**WORKER.about, "open_files": "256"}),
                "warning",
                "only 256 open files",
            ),
            (replace(WORKER, about={**WORKER.about, "open_files": "-1"}), "ok", ""),
            (replace(WORKER, about={"python": "3.13", "interpreter": "/py"}), "ok", ""),
            (replace(WORKER, about={}), "ok", ""),
        ],
    )
    def test_what_sets_a_worker_apart_is_in_its_line(
        self, worker: WorkerInfo, level: str, text: str
    ) -> None:
        _, finding = doctor_services.workers([worker], "ci", HERE)
        assert finding.level == level
        assert text in finding.text
        assert bool(finding.fix) == (level != "ok")


class TestMachine:
    def test_few_open_files_and_little_shared_memory_are_warned_about(self) -> None:
        assert [one.level for one in doctor_services.machine(256, 8 * MB)] == ["warning", "warning"]
        assert [one.level for one in doctor_services.machine(1024, 64 * MB)] == ["ok", "ok"]

    def test_shared_memory_is_not_reported_without_a_postgresql_here(self) -> None:
        assert said(doctor_services.machine(4096, None)) == ["ok 4096 open files are allowed"]
