"""The pool of clones: ahead of the slots, no more than is of use, and nothing in use when the run
has ended.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dct_celery.core.databases.marks import Mark
from dct_celery.errors import CloneFailed
from dct_celery.worker.databases.clone_maker import FLUSHED, PRISTINE
from dct_celery.worker.databases.clone_pool import ClonePool
from tests.unit.worker.databases.scene import BOOKS, WorkerScene


@pytest.fixture
def scene(tmp_path: Path) -> WorkerScene:
    scene = WorkerScene(tmp_path)
    scene.templates.ensure_pristine()
    return scene


def work_off(pool: ClonePool) -> int:
    """Steps until there is nothing left to do."""
    steps = 0
    while pool.step():
        steps += 1
        assert steps < 100, "it never comes to rest"
    return steps


def take(scene: WorkerScene, kind: str = PRISTINE) -> str:
    name = scene.folder.clones.take_spare("default", kind)
    assert name is not None
    return name


def test_each_slot_finds_a_spare(scene: WorkerScene) -> None:
    # When
    work_off(scene.pool(slots=3))
    # Then
    names = scene.folder.clones.spares("default", PRISTINE)
    assert len(names) == 3
    assert all(scene.world.databases[name].rows == BOOKS for name in names)


def test_no_more_are_made_once_each_slot_has_its_own(scene: WorkerScene) -> None:
    # Given
    pool = scene.pool(slots=2)
    work_off(pool)
    # When
    take(scene)
    take(scene)
    work_off(pool)
    # Then
    assert scene.folder.clones.spares("default", PRISTINE) == []


def test_flushed_ones_come_after_the_pristine_ones_where_something_flushes(
    scene: WorkerScene,
) -> None:
    # Given
    pool = scene.pool(slots=2, flushes=frozenset({"default"}))
    # When
    work_off(pool)
    # Then
    assert len(scene.folder.clones.spares("default", PRISTINE)) == 2
    assert [
        scene.world.databases[name].rows for name in scene.folder.clones.spares("default", FLUSHED)
    ] == [[], []]


def test_one_stays_in_reserve_while_anything_can_spoil_a_clone(scene: WorkerScene) -> None:
    # Given
    pool = scene.pool(slots=1, flushes=frozenset({"default"}))
    work_off(pool)
    # When
    take(scene)
    work_off(pool)
    # Then
    assert len(scene.folder.clones.spares("default", PRISTINE)) == 1


def test_a_database_that_is_not_flushed_is_there_pristine_for_the_second_phase(
    tmp_path: Path,
) -> None:
    # Given
    scene = WorkerScene(tmp_path, aliases=("default", "other"))
    scene.templates.ensure_pristine()
    # When
    work_off(scene.pool(slots=2, flushes=frozenset({"default"})))
    # Then
    assert len(scene.folder.clones.spares("other", PRISTINE)) == 4
    assert scene.folder.clones.spares("other", FLUSHED) == []


def test_retired_clones_are_dropped_in_the_background(scene: WorkerScene) -> None:
    # Given
    pool = scene.pool(slots=1)
    work_off(pool)
    name = take(scene)
    # When
    scene.folder.clones.retire(name)
    work_off(pool)
    # Then
    assert name not in scene.world.databases
    assert scene.folder.clones.retired() == []


def test_where_healing_is_cheaper_a_retired_clone_becomes_the_next_spare(
    scene: WorkerScene,
) -> None:
    # Given
    scene.servers["default"].heals = True
    pool = scene.pool(slots=1, flushes=frozenset({"default"}))
    work_off(pool)
    made = scene.servers["default"].stats.cloned
    used = take(scene)
    scene.spoil(used)
    # When
    scene.folder.clones.retire(used)
    work_off(pool)
    # Then
    (name,) = scene.folder.clones.spares("default", PRISTINE)
    assert scene.world.databases[name].rows == BOOKS
    assert scene.servers["default"].stats.cloned == made
    assert used not in scene.world.databases


def test_the_end_leaves_templates_alone_and_no_clone(scene: WorkerScene) -> None:
    # Given
    pool = scene.pool(slots=3, flushes=frozenset({"default"}))
    work_off(pool)
    scene.folder.clones.retire(take(scene))
    take(scene)  # a slot that died with it
    # When
    pool.close(scene.clock.now + 5)
    # Then
    assert scene.kinds() == {"flushed": 1, "template": 1}
    assert scene.folder.clones.in_use() == scene.folder.clones.retired() == []


def test_clones_that_are_worth_it_are_kept_clean_for_the_next_run(
    scene: WorkerScene, tmp_path: Path
) -> None:
    # Given
    scene.servers["default"].heals = True
    pool = scene.pool(slots=2)
    work_off(pool)
    used = take(scene)
    scene.spoil(used)
    scene.folder.clones.retire(used)
    pool.close(scene.clock.now + 5)
    assert scene.kinds() == {"idle": 2, "template": 1}
    # When
    following = WorkerScene(tmp_path, run="run-2", world=scene.world)
    following.templates.ensure_pristine()
    work_off(following.pool(slots=2))
    # Then
    assert following.servers["default"].stats.adopted == 2
    assert following.servers["default"].stats.cloned == 0
    assert all(
        scene.world.databases[name].rows == BOOKS
        for name in following.folder.clones.spares("default", PRISTINE)
    )


@pytest.mark.parametrize(("keep", "idle"), [("always", 2), ("never", 0)])
def test_what_is_kept_can_be_decided(scene: WorkerScene, keep: str, idle: int) -> None:
    # Given
    scene.servers["default"].heals = keep == "never"
    pool = scene.pool(slots=2, keep=keep)
    work_off(pool)
    # When
    pool.close(scene.clock.now + 5)
    # Then
    assert scene.kinds().get("idle", 0) == idle


def test_no_more_are_kept_than_slots_can_use(scene: WorkerScene) -> None:
    # Given
    pool = scene.pool(slots=1, keep="always")
    for _ in range(5):
        pool.add(scene.specs[0], PRISTINE)
    # When
    pool.close(scene.clock.now + 5)
    # Then
    assert scene.kinds()["idle"] == 2


def test_after_the_deadline_nothing_is_healed(scene: WorkerScene) -> None:
    # Given
    scene.servers["default"].heals = True
    pool = scene.pool(slots=1)
    work_off(pool)
    used = take(scene)
    scene.folder.clones.retire(used)
    # When
    pool.close(scene.clock.now - 1)
    # Then
    assert scene.kinds() == {"template": 1}


def test_a_server_in_trouble_costs_the_head_start_and_no_more(scene: WorkerScene) -> None:
    # Given
    pool = scene.pool(slots=2)
    scene.world.down = True
    # When
    assert pool.step()
    # Then it waits a while before it tries again
    assert not pool.step()
    assert scene.folder.clones.spares("default", PRISTINE) == []


def test_what_the_checks_use_is_none_of_the_slots(scene: WorkerScene) -> None:
    # Given
    pool = scene.pool(slots=1)
    # When
    names = pool.take_all()
    work_off(pool)
    # Then
    assert set(names) == {"default"}
    assert len(scene.folder.clones.spares("default", PRISTINE)) == 1


def test_the_export_is_written_when_there_is_nothing_else_to_do(
    scene: WorkerScene, tmp_path: Path
) -> None:
    # When
    work_off(scene.pool(slots=1))
    # Then
    assert (tmp_path / "cache" / "default.export").exists()


# -- with slots at work at the same time -------------------------------------------------------


def test_a_retired_clone_is_taken_out_before_it_is_healed(scene: WorkerScene) -> None:
    # Given a server that heals in place, as MySQL does
    server = scene.servers["default"]
    server.heals = True
    pool = scene.pool(slots=1, flushes=frozenset({"default"}))
    work_off(pool)
    used = take(scene)
    scene.folder.clones.retire(used)
    reclaimed: list[str | None] = []

    def heal(name: str, template: str, fresh: str, mark: Mark) -> str:
        reclaimed.append(scene.folder.clones.reclaim("default"))  # a slot looks for one to heal
        return name

    server.heal = heal  # type: ignore[method-assign]
    # When
    pool.add(scene.specs[0], PRISTINE)
    # Then
    assert reclaimed == [None]
    assert used in scene.folder.clones.spares("default", PRISTINE)


def test_a_retired_clone_is_taken_out_before_it_is_dropped(scene: WorkerScene) -> None:
    # Given
    pool = scene.pool(slots=1)
    work_off(pool)
    scene.folder.clones.retire(take(scene))
    reclaimed: list[str | None] = []
    drop = scene.servers["default"].drop

    def slow(name: str) -> None:
        reclaimed.append(scene.folder.clones.reclaim("default"))
        drop(name)

    scene.servers["default"].drop = slow  # type: ignore[method-assign]
    # When
    pool.step()
    # Then
    assert reclaimed == [None]


def test_no_slot_can_take_what_the_checks_are_given(
    scene: WorkerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given slots that take every spare at once
    pool = scene.pool(slots=1)
    add = scene.folder.clones.add_spare

    def snatched(name: str, alias: str, kind: str) -> None:
        add(name, alias, kind)
        scene.folder.clones.take_spare(alias, kind)

    monkeypatch.setattr(scene.folder.clones, "add_spare", snatched)
    # When
    names = pool.take_all()
    # Then
    assert set(names) == {"default"}


def test_what_the_checks_cannot_have_is_given_back_and_the_pool_pauses(tmp_path: Path) -> None:
    # Given
    scene = WorkerScene(tmp_path, aliases=("a", "b"))
    scene.templates.ensure_pristine()
    pool = scene.pool(slots=1)
    work_off(pool)

    def full(template: str, name: str, mark: Mark) -> None:
        raise CloneFailed("disk full")

    scene.servers["b"].clone = full  # type: ignore[method-assign]
    # When
    with pytest.raises(CloneFailed):
        pool.take_all()
    # Then
    assert pool.quiet
    assert len(scene.folder.clones.retired()) == 1
    assert len(scene.folder.clones.spares("a", PRISTINE)) == 1


def test_a_full_disk_does_not_keep_the_pool_from_dropping(scene: WorkerScene) -> None:
    # Given
    pool = scene.pool(slots=1, flushes=frozenset({"default"}))
    work_off(pool)
    scene.folder.clones.retire(take(scene))

    def full(template: str, name: str, mark: Mark) -> None:
        raise CloneFailed("disk full")

    scene.servers["default"].clone = full  # type: ignore[method-assign]
    # When
    for _ in range(5):
        pool.step()
    # Then
    assert scene.folder.clones.retired() == []


def test_one_that_cannot_be_dropped_does_not_keep_the_others(scene: WorkerScene) -> None:
    # Given
    pool = scene.pool(slots=2)
    work_off(pool)
    stubborn, other = take(scene), take(scene)
    scene.world.stubborn.add(stubborn)
    for name in (stubborn, other):
        scene.folder.clones.retire(name)
    # When
    for _ in range(5):
        pool.step()
    # Then
    assert [name for name, _ in scene.folder.clones.retired()] == [stubborn]
    assert other not in scene.world.databases


def test_what_a_killed_slot_had_is_free_a_little_later(
    scene: WorkerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a clone of a process that is no more
    pool = scene.pool(slots=1)
    work_off(pool)
    name = take(scene)
    mine = scene.folder.path / "clones" / str(os.getpid())
    mine.rename(mine.with_name(str(2**22 + 1)))  # beyond every process id
    # When
    pool.step()
    # Then
    assert name in scene.world.databases
    # When
    monkeypatch.setattr("dct_celery.worker.databases.clone_pool.INHERIT_SECONDS", 0.0)
    work_off(pool)
    # Then
    assert name not in scene.world.databases
    assert scene.folder.clones.in_use() == []


def test_a_note_that_is_just_being_written_does_not_keep_the_pool_from_closing(
    scene: WorkerScene,
) -> None:
    # Given
    pool = scene.pool(slots=1)
    work_off(pool)
    scene.folder.clones.note("test_x", "")
    # When
    pool.close(scene.clock.now + 5)
    # Then
    assert scene.kinds() == {"template": 1}
