"""Templates across runs: built once per key, held while in use, never taken from another run."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from dct_celery.errors import DatabaseError, DatabaseUnfit, ProjectError
from dct_celery.worker.databases import templates
from tests.unit.worker.databases.scene import BOOKS, WorkerScene


def test_the_first_run_builds_and_the_next_reuses(tmp_path: Path) -> None:
    # Given
    first = WorkerScene(tmp_path)
    assert first.templates.ensure_pristine() == "built"
    # When
    second = WorkerScene(tmp_path, run="run-2", world=first.world)
    # Then
    assert second.templates.ensure_pristine() == "reused"
    assert second.project.asked == []


def test_a_template_is_marked_with_its_kind_and_its_last_use(tmp_path: Path) -> None:
    # Given
    first = WorkerScene(tmp_path)
    first.templates.ensure_pristine()
    first.world.time += 1000
    # When
    WorkerScene(tmp_path, run="run-2", world=first.world).templates.ensure_pristine()
    # Then
    mark = first.servers["default"].find(first.templates.name("default", flushed=False))
    assert mark is not None
    assert (mark.kind, mark.run, mark.worker) == ("template", "run-1", "build-a@host")
    assert (mark.used - mark.made, mark.expires - mark.used) == (1000, 14 * 86400)
    assert mark.state == first.servers["default"].state(
        first.templates.name("default", flushed=False)
    )


def test_a_template_in_use_is_held(tmp_path: Path) -> None:
    # Given
    scene = WorkerScene(tmp_path)
    name = scene.templates.name("default", flushed=False)
    # When
    scene.templates.ensure_pristine()
    # Then
    assert scene.servers["default"].in_use(name)
    scene.liveness.close()
    assert not scene.servers["default"].in_use(name)


def test_what_a_dead_builder_left_is_built_again(tmp_path: Path) -> None:
    # Given
    scene = WorkerScene(tmp_path)
    scene.world.create(scene.templates.name("default", flushed=False), rows=[("half",)])
    # Then
    assert scene.templates.ensure_pristine() == "built"
    assert scene.world.databases[scene.templates.name("default", flushed=False)].rows == BOOKS


def test_a_foreign_database_of_that_name_is_not_touched(tmp_path: Path) -> None:
    # Given
    scene = WorkerScene(tmp_path)
    foreign = scene.world.foreign(scene.templates.name("default", flushed=False))
    # When
    with pytest.raises(DatabaseError, match="mark"):
        scene.templates.ensure_pristine()
    # Then
    assert foreign in scene.world.databases.values()


def test_a_failed_build_leaves_nothing_and_shows_the_projects_message(tmp_path: Path) -> None:
    # Given
    scene = WorkerScene(tmp_path)
    scene.project.failing["Build"] = "NoSuchTable: shop"
    # When
    with pytest.raises(ProjectError, match="NoSuchTable: shop") as failure:
        scene.templates.ensure_pristine()
    # Then
    assert failure.value.detail == "its output"
    assert scene.world.databases == {}
    assert scene.world.locks == set()


def test_a_build_on_another_database_than_the_assigned_one_is_what_no_retry_changes(
    tmp_path: Path,
) -> None:
    # Given
    scene = WorkerScene(tmp_path)
    scene.project.failing["Build"] = "its connection is on 'shop'"
    scene.project.reason = "elsewhere"
    # Then
    with pytest.raises(DatabaseUnfit, match="its connection is on 'shop'"):
        scene.templates.ensure_pristine()


def test_create_db_rebuilds_once_per_run(tmp_path: Path) -> None:
    # Given
    first = WorkerScene(tmp_path)
    first.templates.ensure_pristine()
    first.liveness.close()
    # When
    second = WorkerScene(tmp_path, run="run-2", world=first.world)
    # Then
    assert second.templates.ensure_pristine(rebuild=True) == "built"
    other_worker = WorkerScene(tmp_path, run="run-2", world=first.world)
    assert other_worker.templates.ensure_pristine(rebuild=True) == "reused"


def test_create_db_takes_no_template_from_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(templates, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    first = WorkerScene(tmp_path)
    first.templates.ensure_pristine()
    # When
    second = WorkerScene(tmp_path, run="run-2", world=first.world)
    with pytest.raises(DatabaseError, match="another run uses it"):
        second.templates.ensure_pristine(rebuild=True)
    # Then
    assert first.servers["default"].find(first.templates.name("default", flushed=False)) is not None


def test_an_incomplete_set_in_use_is_left_and_every_worker_finds_the_same_other_one(
    tmp_path: Path,
) -> None:
    # Given two aliases whose templates another run holds, one of them gone
    first = WorkerScene(tmp_path, aliases=("default", "other"))
    first.templates.ensure_pristine()
    old = first.templates.name("default", flushed=False)
    first.servers["other"].drop(first.templates.name("other", flushed=False))
    # When
    second = WorkerScene(tmp_path, run="run-2", world=first.world, aliases=("default", "other"))
    third = WorkerScene(tmp_path, run="run-2", world=first.world, aliases=("default", "other"))
    # Then
    assert second.templates.ensure_pristine() == "built"
    assert third.templates.ensure_pristine() == "reused"
    assert second.templates.key == third.templates.key != first.templates.key
    assert first.servers["default"].find(old) is not None


def test_an_exported_template_is_restored_on_an_empty_server(tmp_path: Path) -> None:
    # Given
    first = WorkerScene(tmp_path)
    first.templates.ensure_pristine()
    first.templates.export()
    # When
    second = WorkerScene(tmp_path, run="run-2")
    # Then
    assert second.templates.ensure_pristine() == "restored"
    assert second.project.asked == []
    assert second.world.databases[second.templates.name("default", flushed=False)].rows == BOOKS


def test_an_export_that_cannot_be_read_is_forgotten(tmp_path: Path) -> None:
    # Given
    first = WorkerScene(tmp_path)
    first.templates.ensure_pristine()
    first.templates.export()
    export = tmp_path / "cache" / "default.export"
    export.write_text("{")
    # When
    second = WorkerScene(tmp_path, run="run-2")
    # Then
    assert second.templates.ensure_pristine() == "built"
    assert not export.exists()


def test_create_db_restores_nothing(tmp_path: Path) -> None:
    # Given
    first = WorkerScene(tmp_path)
    first.templates.ensure_pristine()
    first.templates.export()
    # Then
    assert WorkerScene(tmp_path, run="run-2").templates.ensure_pristine(rebuild=True) == "built"


def test_a_flushed_template_is_made_once_and_is_empty(tmp_path: Path) -> None:
    # Given
    scene = WorkerScene(tmp_path, aliases=("default", "other"))
    scene.templates.ensure_pristine()
    # When
    scene.templates.ensure_flushed(["default"])
    scene.templates.ensure_flushed(["default"])
    # Then
    assert scene.project.asked.count("Flush") == 1
    assert scene.world.databases[scene.templates.name("default", flushed=True)].rows == []
    assert scene.kinds() == {"flushed": 1, "template": 2}  # no scratch database is left


def test_a_failed_flush_leaves_the_pristine_template_alone(tmp_path: Path) -> None:
    # Given
    scene = WorkerScene(tmp_path)
    scene.templates.ensure_pristine()
    scene.project.failing["Flush"] = "OperationalError: boom"
    # When
    with pytest.raises(DatabaseError, match="could not be flushed: OperationalError: boom"):
        scene.templates.ensure_flushed(["default"])
    # Then
    assert scene.kinds() == {"template": 1}


def test_a_flush_that_fails_for_the_projects_sake_is_left_to_its_tests(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given
    scene = WorkerScene(tmp_path)
    scene.templates.ensure_pristine()
    scene.project.unflushable = "CommandError: locked"
    # When
    scene.templates.ensure_flushed(["default"])
    # Then it is what the failing flush has left
    assert scene.kinds() == {"template": 1, "flushed": 1}
    assert scene.world.databases[scene.templates.name("default", flushed=True)].rows != []
    assert "database 'default' cannot be flushed: CommandError: locked" in caplog.text


def test_a_rebuilt_template_takes_its_flushed_one_along(tmp_path: Path) -> None:
    # Given
    first = WorkerScene(tmp_path)
    first.templates.ensure_pristine()
    first.templates.ensure_flushed(["default"])
    first.liveness.close()
    # When
    WorkerScene(tmp_path, run="run-2", world=first.world).templates.ensure_pristine(rebuild=True)
    # Then
    assert first.kinds() == {"template": 1}


def test_checks_that_fail_end_the_run(tmp_path: Path) -> None:
    # Given
    scene = WorkerScene(tmp_path)
    scene.templates.ensure_pristine()
    scene.project.failing["Check"] = "SystemCheckError: no"
    scene.project.reason = "checks"
    # Then
    with pytest.raises(ProjectError, match="SystemCheckError: no"):
        scene.templates.run_checks({}, pytest.fail)


def test_what_belonged_to_an_earlier_template_of_the_same_key_is_not_used_for_a_new_one(
    tmp_path: Path,
) -> None:
    # Given a template with its export and its serialized contents
    first = WorkerScene(tmp_path)
    first.specs[0] = replace(first.specs[0], serialize=True)
    first.templates.ensure_pristine()
    first.templates.export()
    first.templates.ensure_serialized()
    first.liveness.close()
    # When it is rebuilt, with other rows
    second = WorkerScene(tmp_path, run="run-2", world=first.world)
    second.specs[0] = first.specs[0]
    build = first.world.create
    first.world.create = lambda name: build(name, [("another key",)])  # type: ignore[method-assign, assignment, misc]
    second.templates.ensure_pristine(rebuild=True)
    second.templates.ensure_serialized()
    second.templates.export()
    # Then
    assert second.project.asked.count("Serialize") == 1
    assert "another key" in (tmp_path / "cache" / "default.export").read_text()


def test_checks_that_could_not_be_run_are_nothing_the_project_did(tmp_path: Path) -> None:
    # Given
    scene = WorkerScene(tmp_path)
    scene.templates.ensure_pristine()
    scene.project.failing["Check"] = "OperationalError: gone"
    scene.project.reason = "database"
    # Then
    with pytest.raises(DatabaseError, match="OperationalError: gone"):
        scene.templates.run_checks({}, pytest.fail)


def test_a_build_that_fails_because_of_the_server_is_no_fault_of_the_project(
    tmp_path: Path,
) -> None:
    # Given
    scene = WorkerScene(tmp_path)
    scene.project.failing["Build"] = (
        "OperationalError: connection failed: FATAL:  sorry, too many clients already"
    )
    # When
    with pytest.raises(DatabaseError, match="has no connection left"):
        scene.templates.ensure_pristine()
    # Then
    assert scene.world.databases == {}
