"""Claims about `worker.host.preparation`: the way from a run's specification to one that slots may
claim chunks of, and each way in which a worker finds that it cannot take part.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery import __version__
from dct_celery.core.ids import digest_of
from dct_celery.core.model import Artifact, Manifest
from dct_celery.errors import ConfigError, DatabaseError, LeaseLost, ProcessDied, ProjectError
from dct_celery.protocol.runs import DatabaseRules, ManifestSummary
from dct_celery.protocol.workers import MeasuredReport, ShortReport, WorkerReport
from dct_celery.settings import Settings
from dct_celery.wire import messages
from dct_celery.worker.folders.work_folder import RunFolder, WorkFolder
from dct_celery.worker.host.preparation import Preparation, Prepared, Refused
from dct_celery.worker.services import WorkerServices
from tests.support.factories import NONCE, make_spec, pool_door, run_door
from tests.support.fake_clock import FakeClock
from tests.support.memory_database import MemoryDatabases, MemoryServer
from tests.unit.worker.databases.scene import Project

RUN = "run-one"
DIGEST = Manifest(()).digest
ENVIRONMENT = {
    "python": "3.11",
    "package:django": "5.2",
    "loaded": "django",
    "variable:FEATURE": "7f",
    "address:DB_HOST": "7f",
}
SHOP: dict[str, Any] = {"alias": "default", "vendor": "postgresql", "name": "shop", "host": "db"}


def loaded(**fields: Any) -> messages.Loaded:
    usual: dict[str, Any] = {
        "count": 9,
        "digest": DIGEST,
        "seconds": 0.1,
        "environment": ENVIRONMENT,
        "databases": [SHOP],
    }
    return messages.Loaded(**{**usual, "schema": "of-this-project", **fields})


class Loader:
    """Says one thing; or nothing, which takes time."""

    pid = 4711

    def __init__(self, clock: FakeClock, says: messages.Message | Exception | None) -> None:
        self._clock, self._says = clock, says
        self.did: list[str] = []
        #: What it was asked after the first message.
        self.asked: list[messages.Message] = []
        #: Its answer to that.
        self.answer: messages.Message | None = messages.MigratedAgain(0.1)

    def send(self, message: messages.Message) -> None:
        self.asked.append(message)
        self._says = self.answer

    def receive(self, timeout: float | None = None) -> messages.Message | None:
        if isinstance(self._says, Exception):
            raise self._says
        if self._says is None:
            self._clock.now += timeout or 0.0
        return self._says

    def alive(self) -> bool:
        return True

    def show_stacks(self) -> None:
        self.did.append("stacks")

    def kill(self) -> None:
        self.did.append("kill")

    def close(self, grace: float = 5.0) -> None:
        self.did.append("close")


class Ledger:
    """Has this specification and this manifest."""

    def __init__(self) -> None:
        self.of_run = make_spec(RUN, version=__version__)
        self.summary: ManifestSummary | None = ManifestSummary(DIGEST, 9, ENVIRONMENT)
        self.reports: list[WorkerReport] = []

    def spec(self) -> Any:
        return self.of_run

    def manifest(self) -> ManifestSummary | None:
        return self.summary

    def head(self) -> bytes | None:
        return None

    def report(self, worker: str, report: WorkerReport) -> None:
        self.reports.append(report)


class Scene:
    """A worker of four slots, a project with one database, and a server that is empty."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.world = FakeClock(), MemoryDatabases()
        self.server, self.project = MemoryServer(self.world), Project(self.world)
        self.ledger = Ledger()
        self.says: messages.Message | Exception | None = loaded()
        self.answers: messages.Message | None = messages.MigratedAgain(0.1)
        self.over = False
        self.folder: RunFolder = WorkFolder(folder).run(RUN)
        unused: Any = Mock()
        self.services = WorkerServices(
            settings=Settings(deny_db_host=("prod.*",)),
            name="build-a@host",
            host="host",
            folder=WorkFolder(folder),
            clock=self.clock,
            door=pool_door(),
            registry=unused,
            ledger=unused,
            send_files=unused,
            code=lambda spec: folder,
            server_for=lambda spec: self.server,
            start_process=self._start,
            user_environment=lambda forwarded, own: {**forwarded, **own},
            resolve=lambda hosts: {},
            own_redis=frozenset({"localhost:6379/1"}),
        )
        self.preparation = self._preparation()
        self.preparation._fork = self.project.fork

    def _preparation(self) -> Any:
        ledger: Any = self.ledger
        return Preparation(
            self.services, RUN, self.folder, ledger, lambda: self.over, 4, run_door(RUN)
        )

    def _start(self, python: str, load: messages.Load, environment: Any, log: Any) -> Loader:
        self.load, self.environment = load, environment
        log.write(b"imported half of it")
        self.loader = Loader(self.clock, self.says)
        self.loader.answer = self.answers
        return self.loader

    def prepare(self) -> Prepared:
        prepared: Prepared = self.preparation.prepare()
        return prepared

    def refusal(self) -> Refused:
        with pytest.raises(Refused) as refused:
            self.prepare()
        return refused.value


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.preparation._liveness.close()  # and its thread


def test_a_run_is_loaded_its_templates_are_built_and_clones_can_be_made(scene: Scene) -> None:
    # When
    prepared = scene.prepare()
    # Then
    assert prepared.templates == "built"
    assert prepared.slots == 4
    assert [spec.alias for spec in prepared.specs] == ["default"]
    assert list(prepared.steps) == ["load", "connect", "templates", "serialize", "manifest"]
    assert scene.project.asked == ["Build"]
    assert scene.environment["PYTHONHASHSEED"] == "0"
    assert scene.loader.asked == []  # nothing of the project listens
    assert scene.preparation.checks.passed  # a build includes them
    scene.preparation.pool.step()
    assert len(scene.folder.clones.spares("default", "t")) == 1


def test_a_loader_whose_project_listens_migrates_clones_that_are_dropped(scene: Scene) -> None:
    # Given
    scene.says = loaded(receivers=["shop.apps.fill"])
    # When
    prepared = scene.prepare()
    # Then
    (asked,) = scene.loader.asked
    assert isinstance(asked, messages.MigrateAgain)
    (clone,) = asked.databases.values()
    assert clone.startswith("test_dct")
    assert clone not in scene.world.databases
    assert list(prepared.steps)[-2:] == ["receivers", "manifest"]


def test_receivers_that_cannot_run_twice_refuse_the_run(scene: Scene) -> None:
    # Given
    scene.says = loaded(receivers=["shop.apps.fill"])
    scene.answers = messages.Fatal("template", "IntegrityError: twice", "its trace")
    # When
    with pytest.raises(ConfigError) as caught:
        scene.prepare()
    # Then
    assert "fail when they run again" in str(caught.value)
    assert str(caught.value).endswith("IntegrityError: twice")
    assert caught.value.detail == "its trace"


def test_a_server_that_fails_while_receivers_run_is_asked_again(scene: Scene) -> None:
    # Given
    scene.says = loaded(receivers=["shop.apps.fill"])
    scene.answers = messages.Fatal("template", "FATAL:  sorry, too many clients already")
    # When
    with pytest.raises(DatabaseError, match="has no connection left"):
        scene.prepare()
    # Then
    assert len(scene.loader.asked) == 1 + Settings().database_retries


def test_receivers_that_do_not_end_end_the_loader(scene: Scene) -> None:
    # Given
    scene.says = loaded(receivers=["shop.apps.fill"])
    scene.answers = None
    # When
    refused = scene.refusal()
    # Then
    assert refused.reason.startswith("migrating again took longer than 300 s")
    assert scene.loader.did == ["stacks", "kill"]


def test_templates_that_are_there_are_used_and_their_checks_still_have_to_run(
    scene: Scene, tmp_path: Path
) -> None:
    # Given
    first = scene.prepare()
    again = Scene(tmp_path / "other")
    again.world, again.server, again.project = scene.world, scene.server, scene.project
    again.preparation._fork = scene.project.fork
    # When
    second = again.prepare()
    # Then
    assert (second.templates, second.key) == ("reused", first.key)
    assert second.owner != first.owner
    assert not again.preparation.checks.passed


def test_another_schema_has_other_templates(scene: Scene, tmp_path: Path) -> None:
    # Given
    first = scene.prepare()
    again = Scene(tmp_path / "other")
    again.server, again.preparation._fork = scene.server, scene.project.fork
    again.says = loaded(schema="of-another-project")
    # When / Then
    assert again.prepare().key != first.key


def test_the_databases_have_a_liveness_lock_before_anything_is_made(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    alive: list[bool] = []
    ask = scene.project.ask

    def ask_and_note(*args: Any, **more: Any) -> Any:
        alive.append(bool(scene.world.liveness))
        return ask(*args, **more)

    monkeypatch.setattr(scene.project, "ask", ask_and_note)
    # When
    scene.prepare()
    # Then
    assert alive == [True]
    # And the end gives it up
    scene.preparation.close()
    assert scene.world.liveness == {}
    assert scene.server.closed
    assert scene.loader.did == ["close"]


# -- what keeps a worker from a run ------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"digest": "f" * 64},
            "the suite differs from the dispatcher's: 9 tests on the worker, 9 on the dispatcher",
        ),
        (
            {"environment": {"python": "3.12"}},
            "the environment differs from the dispatcher's: django is missing",
        ),
        (
            {"redis_in_use": ["localhost:6379/1"]},
            "the project uses the Redis database localhost:6379/1",
        ),
    ],
    ids=["manifest", "environment", "redis"],
)
def test_what_differs_from_the_dispatcher_refuses_the_run(
    scene: Scene, change: dict[str, Any], reason: str
) -> None:
    # Given
    scene.says = loaded(**change)
    # When / Then
    assert scene.refusal().reason.startswith(reason)


def test_a_package_that_the_run_ignores_may_differ(scene: Scene) -> None:
    # Given
    scene.ledger.of_run = make_spec(RUN, version=__version__, ignore_packages=("Django",))
    scene.says = loaded(environment={**ENVIRONMENT, "package:django": "5.3"})
    # When / Then
    assert scene.prepare().slots == 4


@pytest.mark.parametrize("globs", [(), ("FEAT*",)], ids=["compared", "ignored"])
def test_a_variable_that_the_project_reads_is_compared_unless_it_may_differ(
    scene: Scene, globs: tuple[str, ...]
) -> None:
    # Given
    scene.ledger.of_run = make_spec(RUN, version=__version__, ignore_variables=globs)
    scene.says = loaded(environment={**ENVIRONMENT, "variable:FEATURE": "unset"})
    # When / Then
    if globs:
        assert scene.prepare().slots == 4
    else:
        assert scene.refusal().reason == (
            "the environment differs from the dispatcher's: the variable FEATURE, which the project"
            " reads, is set on the dispatcher and not on the worker (--env FEATURE passes it to the"
            " tests; --ignore-env FEATURE lets it differ)"
        )


def test_a_suite_and_an_environment_that_differ_are_reported_together(scene: Scene) -> None:
    # Given
    environment = {**ENVIRONMENT, "variable:FEATURE": "unset"}
    scene.says = loaded(environment=environment, count=8, digest="f" * 64)
    # When
    reason = scene.refusal().reason
    # Then
    assert "8 tests on the worker, 9 on the dispatcher" in reason
    assert "the environment differs, too: the variable FEATURE" in reason


def test_a_suite_that_misses_a_variable_is_refused_with_its_name(scene: Scene) -> None:
    # Given
    unset = ("FEATURE", "NOT_READ_THERE")
    scene.says = messages.Fatal("settings", "KeyError: 'FEATURE'", "trace", unset)
    # When
    reason = scene.refusal().reason
    # Then
    assert reason.startswith("the suite cannot be built on this worker: KeyError: 'FEATURE'; ")
    assert "FEATURE, which the project reads, is set on the dispatcher and not on" in reason
    assert "NOT_READ_THERE" not in reason


def test_a_server_that_is_out_of_reach_is_reported_with_the_variables_that_differ(
    scene: Scene,
) -> None:
    # Given
    scene.says = loaded(environment={**ENVIRONMENT, "address:DB_HOST": "8a"})
    scene.server.room = 1
    # When / Then
    with pytest.raises(DatabaseError, match=r"one slot needs 2: .*; the variable DB_HOST, which"):
        scene.prepare()


def test_the_key_for_hashes_of_variables_goes_to_the_loader(scene: Scene) -> None:
    # When
    scene.prepare()
    # Then
    assert scene.load.environment_key == pool_door().environment_key


def test_a_suite_that_cannot_be_built_here_is_refused_with_the_projects_own_message(
    scene: Scene,
) -> None:
    # Given
    scene.says = messages.Fatal("settings", "ValueError: no shop", "its traceback")
    # When
    refused = scene.refusal()
    # Then
    assert refused.reason == "the suite cannot be built on this worker: ValueError: no shop"
    assert refused.detail == "its traceback"


def test_a_module_that_is_missing_is_told_with_the_interpreter_that_misses_it(
    scene: Scene,
) -> None:
    # Given
    scene.says = messages.Fatal("settings", "ModuleNotFoundError: No module named 'shop'")
    # When
    refused = scene.refusal()
    # Then
    assert refused.reason == (
        "the suite cannot be built on this worker: ModuleNotFoundError: No module named 'shop';"
        f" tests run with {sys.executable} there (the worker's DCT_PYTHON)"
    )


def test_a_suite_that_takes_too_long_to_build_shows_its_stacks_and_ends(scene: Scene) -> None:
    # Given
    scene.ledger.of_run = make_spec(RUN, version=__version__, fixture_timeout=20.0)
    scene.says = None
    # When
    refused = scene.refusal()
    # Then
    assert refused.reason == "building the suite took longer than 20 s (--fixture-timeout)"
    assert refused.detail == "imported half of it"
    assert scene.loader.did == ["stacks", "kill"]
    assert scene.clock.now - 1000.0 == pytest.approx(20.0, abs=0.5)


def test_a_run_that_ends_while_its_suite_is_built_is_over(scene: Scene) -> None:
    # Given
    scene.says = None
    scene.over = True
    # When / Then
    with pytest.raises(LeaseLost):
        scene.prepare()


def test_a_loader_that_dies_is_no_refusal_for_good(scene: Scene) -> None:
    # Given
    scene.says = ProcessDied("signal 9")
    # When / Then
    with pytest.raises(ProcessDied):
        scene.prepare()


@pytest.mark.parametrize(
    ("deed", "match"),
    [
        (
            lambda scene: setattr(
                scene, "says", loaded(configured=[configured(host="prod.example")])
            ),
            "prod.example",
        ),
        (lambda scene: setattr(scene.server, "seen", ["prod.example"]), "prod.example"),
        (
            lambda scene: (
                setattr(
                    scene.ledger,
                    "of_run",
                    make_spec(
                        RUN, version=__version__, databases=DatabaseRules(deny_hosts=("db",))
                    ),
                )
                or setattr(scene, "says", loaded(configured=[configured(host="db")]))
            ),
            "db",
        ),
    ],
    ids=["by this worker's list", "by what the connection says", "by the run's list"],
)
def test_a_denied_server_gets_no_statement(
    scene: Scene, deed: Callable[[Scene], object], match: str
) -> None:
    # Given
    deed(scene)
    # When / Then
    with pytest.raises((ConfigError, DatabaseError), match=match):
        scene.prepare()
    assert scene.world.liveness == {}
    assert scene.project.asked == []


def configured(**fields: Any) -> dict[str, Any]:
    usual = {
        "alias": "default",
        "vendor": "postgresql",
        "name": "shop",
        "test_name": "test_shop",
        "test": True,
        "host": "db",
        "port": "",
        "used": True,
        "pinned_by": "",
    }
    return {**usual, **fields}


# -- servers that are short of something -------------------------------------------------


def test_slots_that_a_server_has_no_room_for_back_off_and_the_dispatcher_learns_of_it(
    scene: Scene,
) -> None:
    # Given
    scene.server.room = 7
    # When
    prepared = scene.prepare()
    # Then: three slots of two connections each, and one for the worker itself
    assert prepared.slots == 2
    (report,) = scene.ledger.reports
    assert isinstance(report, ShortReport)
    assert report.message.startswith(
        "2 of 4 slots stay idle: memory:0 has 7 connections left, a slot needs 2"
    )


def test_a_server_without_room_for_one_slot_is_an_error_with_its_fix(scene: Scene) -> None:
    # Given
    scene.server.room = 1
    # When / Then
    with pytest.raises(DatabaseError, match="one slot needs 2: raise its max_connections"):
        scene.prepare()


def test_a_project_that_does_not_migrate_fails_with_its_own_message(scene: Scene) -> None:
    # Given
    scene.project.failing = {"Build": "no such column"}
    # When / Then
    with pytest.raises(ProjectError, match="no such column"):
        scene.prepare()
    assert scene.world.databases == {}


def test_what_this_process_did_with_databases_is_counted(scene: Scene) -> None:
    # Given
    scene.prepare()
    scene.preparation.pool.step()
    # When / Then
    assert scene.preparation.database_use()["cloned"] == 1


# -- coverage ----------------------------------------------------------------------------


def test_a_run_that_is_measured_builds_templates_that_no_other_run_has(
    scene: Scene, tmp_path: Path
) -> None:
    # Given
    scene.says = loaded(measured=True)
    first = scene.prepare()
    again = Scene(tmp_path / "other")
    again.server, again.preparation._fork = scene.server, scene.project.fork
    again.says = loaded(measured=True)
    again.ledger.of_run = make_spec(RUN, version=__version__, nonce="fedcba9876543210")
    # When
    second = again.prepare()
    # Then
    assert first.templates == second.templates == "built"
    assert first.key != second.key
    assert first.measured
    assert first.published(NONCE, "key").measured


def test_what_was_measured_while_templates_were_made_is_sent_and_what_is_missing_counted(
    scene: Scene, tmp_path: Path
) -> None:
    # Given helper processes of which one has left data
    sent: list[tuple[str, bytes]] = []
    scene.preparation._services = replace(
        scene.services, send_files=lambda run, files: sent.extend(files)
    )
    scene.says = loaded(measured=True)
    scene.preparation._coverage_files = [tmp_path / "coverage.data", tmp_path / "missing"]
    (tmp_path / "coverage.data").write_bytes(b"migrations")
    # When
    scene.prepare()
    # Then
    (report,) = scene.ledger.reports
    artifact = Artifact("coverage.data", 10, digest_of(b"migrations"))
    assert report == MeasuredReport((artifact,), unsent=1)
    assert sent == [(artifact.digest, b"migrations")]
