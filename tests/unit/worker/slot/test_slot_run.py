"""Claims about `worker.slot.slot_run`: when a slot gets a fresh fork, which clones it takes, and
how long it waits for a database server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dct_celery.errors import CloneFailed, DatabaseError, ProcessDied, ServerFault
from dct_celery.machine import Machine
from dct_celery.settings import Settings
from dct_celery.wire import messages
from dct_celery.worker.databases.clone_maker import FLUSHED, PRISTINE
from dct_celery.worker.health.memory_pressure import MemoryPressure
from dct_celery.worker.health.slot_backoff import backing_off
from dct_celery.worker.slot.slot_run import AWAY_SECONDS, SPARE_SECONDS, SlotRun
from tests.support.fake_process import FakeProcess
from tests.unit.worker.slot.scene import CHUNK, FLUSHING, RUN, SlotScene


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlotScene]:
    scene = SlotScene(tmp_path, monkeypatch)
    yield scene
    scene.run.close()


def attach(process: FakeProcess) -> messages.Attach:
    (question,) = [one for one in process.sent if isinstance(one, messages.Attach)]
    return question


# -- which process and which clones ------------------------------------------------------


def test_the_first_chunk_gets_a_fork_that_is_attached_to_clones_of_its_own(
    scene: SlotScene,
) -> None:
    # When
    process = scene.process_for(CHUNK)
    # Then
    assert [process] == scene.forks.made
    assert list(attach(scene.process).databases.values()) == scene.clones
    assert scene.process.pid == 4711


def test_the_process_has_folders_of_its_own_slot(scene: SlotScene) -> None:
    # When
    scene.process_for(CHUNK)
    # Then
    (environment,) = scene.forks.environments
    assert environment["DCT_SLOT"] == "3"
    assert Path(environment["TMPDIR"]).is_dir()


def test_a_process_has_the_number_of_the_chunk_that_it_was_started_for(scene: SlotScene) -> None:
    # Given
    scene.run.process_for(CHUNK, lambda: False, number=5)
    scene.run.used(CHUNK)
    # When
    scene.run.process_for(replace(CHUNK, id="c9", indices=(7, 8)), lambda: False, number=6)
    scene.run.process_for(replace(CHUNK, id="c10", indices=(1,)), lambda: False, number=7)
    # Then
    assert [one["DCT_PROCESS"] for one in scene.forks.environments] == ["5", "7"]


def test_a_slot_stands_back_and_ends_its_process_while_memory_is_short(
    scene: SlotScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that waits for its next chunk
    scene.process_for(CHUNK)
    scene.run.used(CHUNK)
    free = [10 * 2**20]
    monkeypatch.setattr(
        scene.run, "_memory", MemoryPressure(lambda: Machine(2, 2**32, free[0]), exempt=False)
    )
    # When
    may = scene.run.may_claim()
    # Then
    assert not may
    assert scene.run.process is None
    (reason,) = backing_off(scene.run.folder.backoff, scene.clock.now)
    assert reason == "10 MiB of 4.0 GiB of memory are free"
    # When there is enough again
    free[0] = 2**31
    scene.clock.now += 60.0
    # Then
    assert scene.run.may_claim()


def test_a_chunk_that_suits_runs_in_the_same_process(scene: SlotScene) -> None:
    # Given
    first = scene.process_for(CHUNK)
    scene.run.used(CHUNK)
    # When / Then
    assert scene.process_for(replace(CHUNK, id="c9", indices=(7, 8))) is first
    assert scene.forks.made == [first]


@pytest.mark.parametrize("indices", [(0, 1), (1,), (1, 5)])
def test_a_chunk_that_does_not_come_after_the_last_one_gets_a_fresh_process(
    scene: SlotScene, indices: tuple[int, ...]
) -> None:
    # Given
    first = scene.process_for(CHUNK)
    clones = scene.clones
    scene.run.used(CHUNK)
    # When
    second = scene.process_for(replace(CHUNK, id="c9", indices=indices))
    # Then: sequences of a clone have a past, too
    assert second is not first
    assert not set(clones) & set(scene.clones)


def change_the_schema(scene: SlotScene) -> None:
    scene.world.databases[scene.clones[0]].sealed = True
    assert scene.run.used(CHUNK) == ["default"]


def restart_the_server(scene: SlotScene) -> None:
    scene.world.life += 1


def use_it_up(scene: SlotScene) -> None:
    scene.run.used(FLUSHING)


@pytest.mark.parametrize("deed", [change_the_schema, restart_the_server, use_it_up])
def test_a_process_whose_clones_do_not_suit_is_retired_with_them(
    scene: SlotScene, deed: Callable[[SlotScene], None]
) -> None:
    # Given
    scene.process_for(CHUNK)
    first, clones = scene.process, scene.clones
    # When
    deed(scene)
    scene.process_for(CHUNK)
    # Then
    assert first.ends == ["finish"]
    assert [name for name, _ in scene.folder.clones.retired()] == clones
    assert scene.process is not first
    assert not set(scene.clones) & set(clones)


def test_a_schema_that_tests_which_flush_have_changed_is_no_leak(scene: SlotScene) -> None:
    # Given
    scene.process_for(FLUSHING)
    # When
    scene.world.databases[scene.clones[0]].sealed = True
    # Then
    assert scene.run.used(FLUSHING) == []


def test_a_chunk_that_wants_a_fresh_process_gets_one(scene: SlotScene) -> None:
    # Given
    first = scene.process_for(CHUNK)
    # When / Then
    assert scene.process_for(replace(CHUNK, fresh_process=True)) is not first


def test_a_chunk_that_flushes_gets_clones_of_the_flushed_template(scene: SlotScene) -> None:
    # When
    scene.process_for(FLUSHING)
    # Then
    (name,) = scene.clones
    assert scene.world.databases[name].rows == []
    question = attach(scene.process)
    assert (question.flush, question.flushed) == ([], ["default"])


def test_a_database_that_is_flushed_late_is_flushed_by_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    scene = SlotScene(tmp_path, monkeypatch)
    scene.run._databases._specs = [replace(scene.specs[0], late_flush=True)]
    # When
    scene.process_for(FLUSHING)
    # Then
    (name,) = scene.clones
    assert scene.world.databases[name].rows == [(1,)]
    question = attach(scene.process)
    assert (question.flush, question.flushed) == (["default"], [])


def test_a_chunk_that_was_begun_here_before_is_fresh(scene: SlotScene) -> None:
    assert [scene.run.once(CHUNK).fresh_process for _ in range(2)] == [False, True]


# -- spares ------------------------------------------------------------------------------


def test_a_spare_is_taken_before_anything_is_made(scene: SlotScene) -> None:
    # Given
    spare = scene.run._databases._maker.make(scene.specs[0], PRISTINE)
    scene.folder.clones.add_spare(spare, "default", PRISTINE)
    made = scene.server.stats.cloned
    # When
    scene.process_for(CHUNK)
    # Then
    assert scene.clones == [spare]
    assert scene.server.stats.cloned == made


def test_a_spare_in_the_making_is_waited_for_and_the_wait_is_counted(scene: SlotScene) -> None:
    # Given
    spare = scene.run._databases._maker.make(scene.specs[0], FLUSHED)
    making = scene.folder.clones.making("default", FLUSHED)
    making.__enter__()

    def finish() -> None:
        scene.folder.clones.add_spare(spare, "default", FLUSHED)
        making.__exit__(None, None, None)

    scene.clock.at(2.0, finish)
    # When
    scene.process_for(FLUSHING)
    # Then
    assert scene.clones == [spare]
    assert scene.run.database_use()["waited_seconds"] == pytest.approx(2.0, abs=0.01)


def test_a_spare_that_does_not_come_is_not_waited_for_any_longer(scene: SlotScene) -> None:
    # Given
    with scene.folder.clones.making("default", PRISTINE):
        # When
        scene.process_for(CHUNK)
    # Then
    assert scene.clock.now - 1000.0 == pytest.approx(SPARE_SECONDS, abs=0.01)
    assert len(scene.clones) == 1


# -- database servers in trouble ---------------------------------------------------------


def failing(scene: SlotScene, *errors: DatabaseError) -> None:
    """The next attempts to attach fail with these."""
    left = list(errors)

    def prepare(process: FakeProcess) -> None:
        if left:
            process.answer = left.pop(0)

    scene.forks.prepare = prepare


def short(number: int) -> DatabaseError:
    return DatabaseError(f"no room {number}", fault=ServerFault.CONNECTIONS)


def test_a_server_without_connections_is_asked_three_times_more_with_longer_pauses(
    scene: SlotScene,
) -> None:
    # Given
    failing(scene, *map(short, range(4)))
    # When
    with pytest.raises(DatabaseError, match="no room 3"):
        scene.process_for(CHUNK)
    # Then
    assert scene.clock.waits == [1.0, 2.0, 4.0]
    assert [process.ends for process in scene.forks.made] == [["kill"]] * 4
    assert scene.clones == []


def test_a_server_that_has_connections_again_serves_the_chunk(scene: SlotScene) -> None:
    # Given
    failing(scene, short(0), short(1))
    # When
    process = scene.process_for(CHUNK)
    # Then
    assert process is scene.forks.made[2]
    assert scene.clock.waits == [1.0, 2.0]


def test_a_lease_that_is_lost_ends_the_tries(scene: SlotScene) -> None:
    # Given
    failing(scene, short(0))
    # When / Then
    with pytest.raises(DatabaseError, match="no room 0"):
        scene.process_for(CHUNK, lambda: True)
    assert scene.clock.waits == []


def test_a_full_disk_is_not_waited_for(scene: SlotScene) -> None:
    # Given
    failing(scene, DatabaseError("no space", fault=ServerFault.DISK))
    # When / Then
    with pytest.raises(DatabaseError, match="no space"):
        scene.process_for(CHUNK)
    assert scene.clock.waits == []


def test_what_is_not_the_servers_fault_is_not_tried_again(scene: SlotScene) -> None:
    # Given
    failing(scene, DatabaseError("the test process could not attach"))
    # When / Then
    with pytest.raises(DatabaseError, match="could not attach"):
        scene.process_for(CHUNK)
    assert len(scene.forks.made) == 1


def goes_away(scene: SlotScene, back_after: float) -> None:
    """The server goes as the first fork attaches, and is back so many seconds later."""

    def prepare(process: FakeProcess) -> None:
        if not scene.forks.made:
            process.answer = DatabaseError("gone", fault=ServerFault.AWAY)
            scene.clock.at(0.1, lambda: setattr(scene.world, "down", True))
            scene.clock.at(back_after, lambda: setattr(scene.world, "down", False))

    scene.forks.prepare = prepare


def test_a_server_that_is_away_is_waited_for_and_only_then_tried_again(scene: SlotScene) -> None:
    # Given
    goes_away(scene, back_after=30.0)
    # When
    scene.process_for(CHUNK)
    # Then
    assert len(scene.forks.made) == 2
    assert 30.0 <= scene.clock.now - 1000.0 <= 31.0


def test_a_server_that_stays_away_is_given_up_after_its_time(scene: SlotScene) -> None:
    # Given
    goes_away(scene, back_after=10_000.0)
    # When / Then
    with pytest.raises(DatabaseError, match="gone"):
        scene.process_for(CHUNK)
    assert AWAY_SECONDS <= scene.clock.now - 1000.0 <= AWAY_SECONDS + 2


def test_nothing_is_waited_for_once_there_is_nothing_to_wait_for(scene: SlotScene) -> None:
    # Given
    goes_away(scene, back_after=60.0)
    lost = [False]
    scene.clock.at(5.0, lambda: lost.append(True))
    # When / Then: the lease is lost meanwhile
    with pytest.raises(DatabaseError, match="gone"):
        scene.process_for(CHUNK, lambda: lost[-1])
    assert scene.clock.now - 1000.0 == pytest.approx(5.5, abs=0.6)


def test_clones_that_cannot_be_made_leave_nothing_behind(scene: SlotScene) -> None:
    # Given
    del scene.world.databases[scene.run._databases._maker.template(scene.specs[0], PRISTINE)]
    # When / Then
    with pytest.raises(CloneFailed):
        scene.process_for(CHUNK)
    assert scene.clones == []
    assert scene.process.ends == ["kill"]


# -- attaching ---------------------------------------------------------------------------


def test_a_process_that_reached_another_server_refuses_the_run_on_this_worker(
    scene: SlotScene,
) -> None:
    # Given
    def elsewhere(process: FakeProcess) -> None:
        process.answer = messages.Fatal("elsewhere", "default leads to db.other", "")

    scene.forks.prepare = elsewhere
    # When / Then
    with pytest.raises(DatabaseError, match=r"could not attach: default leads to db\.other"):
        scene.process_for(CHUNK)
    assert scene.folder.refusal == "default leads to db.other"


def load_badly(process: FakeProcess) -> None:
    process.answer = messages.Fatal("settings", "OSError: in use", "")


def test_a_project_that_no_process_can_load_by_itself_refuses_the_worker_the_second_time(
    scene: SlotScene,
) -> None:
    # Given
    scene.forks.prepare = load_badly
    # When / Then
    for refused in (False, True):
        with pytest.raises(DatabaseError, match="load the project by itself: OSError: in use"):
            scene.process_for(CHUNK)
        assert bool(scene.folder.refusal) == refused
    assert scene.folder.refusal.endswith("by itself: OSError: in use")


def test_a_project_that_some_slot_has_loaded_keeps_the_worker(scene: SlotScene) -> None:
    # Given
    scene.process_for(CHUNK)
    scene.forks.prepare = load_badly
    # When
    for _ in range(3):
        with pytest.raises(DatabaseError):
            scene.process_for(replace(CHUNK, fresh_process=True))
    # Then
    assert scene.folder.refusal == ""


def test_a_process_that_dies_while_it_attaches_is_no_databases_fault(scene: SlotScene) -> None:
    # Given
    def dying(process: FakeProcess) -> None:
        process.answer = ProcessDied("signal 11")

    scene.forks.prepare = dying
    # When / Then
    with pytest.raises(ProcessDied):
        scene.process_for(CHUNK)
    assert len(scene.forks.made) == 1


# -- rest and end ------------------------------------------------------------------------


def test_a_slot_that_backs_off_claims_nothing_until_its_pause_is_over(scene: SlotScene) -> None:
    # Given
    assert scene.run.may_claim()
    # When
    scene.run.back_off("no room")
    # Then
    assert not scene.run.may_claim()
    scene.clock.now += 2.0
    assert scene.run.may_claim()


def test_the_end_gives_back_process_clones_permit_and_connections(scene: SlotScene) -> None:
    # Given
    scene.run.may_claim()
    scene.process_for(CHUNK)
    # When
    scene.run.close()
    # Then
    assert scene.process.ends == ["kill"]
    assert scene.clones == []
    assert len(scene.folder.clones.retired()) == 1
    assert scene.server.closed


# -- the tree ------------------------------------------------------------------------------


def test_a_test_process_has_a_layer_of_its_own_until_it_ends(scene: SlotScene) -> None:
    # Given
    scene.process_for(CHUNK)
    (layer,) = scene.forks.trees
    assert isinstance(layer, Path)
    (layer / "work" / "work").mkdir(parents=True)
    (layer / "work" / "work").chmod(0)
    (layer / "upper").mkdir()
    (layer / "upper" / "upload.bin").touch()
    # When
    scene.run.retire()
    # Then
    assert not layer.exists()
    assert layer.parent.is_dir()


def test_the_next_test_process_begins_with_an_empty_one(scene: SlotScene) -> None:
    # When
    for _ in range(2):
        scene.process_for(replace(CHUNK, fresh_process=True))
        scene.run.retire()
    # Then
    one, other = scene.forks.trees
    assert one != other


def test_where_it_is_switched_off_the_tree_is_shared_and_the_process_is_told_why(
    scene: SlotScene,
) -> None:
    # Given
    scene.services = replace(scene.services, settings=Settings(private_tree=False))
    scene.run = SlotRun(scene.services, RUN, scene.folder, 3, scene.state)
    # When
    scene.process_for(CHUNK)
    # Then
    assert scene.forks.trees == ["DCT_PRIVATE_TREE is off"]


def test_why_a_tree_is_shared_is_logged_once(
    scene: SlotScene, caplog: pytest.LogCaptureFixture
) -> None:
    # Given
    def sharing(process: FakeProcess) -> None:
        process.answer = messages.Attached(4711, 0.1, "unshare: not permitted")

    scene.forks.prepare = sharing
    # When
    with caplog.at_level("INFO"):
        for _ in range(2):
            scene.process_for(replace(CHUNK, fresh_process=True))
            scene.run.retire()
    # Then
    assert caplog.text.count("slots share the tree: unshare: not permitted") == 1
