"""Claims about `worker.databases.clone_maker`: which clone a slot or the pool gets, and that none
is ever unknown to the run's folder.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dct_celery.core.databases.marks import Mark
from dct_celery.errors import CloneFailed, DatabaseError, ServerFault
from dct_celery.settings import Settings
from dct_celery.worker.databases.clone_maker import PRISTINE, CloneMaker
from tests.unit.worker.databases.scene import BOOKS, HealingServer, WorkerScene


class Scene(WorkerScene):
    """A run whose pristine template is there, and slot 3's maker of clones."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.templates.ensure_pristine()
        self.slot: CloneMaker = self.maker(3)
        self.spec = self.specs[0]
        self.server: HealingServer = self.servers["default"]

    @property
    def noted(self) -> list[str]:
        """Clones that this process has, by the run's folder."""
        return [name for name, _ in self.folder.clones.in_use()]

    def retired(self) -> str:
        """A used clone that was given back."""
        name = self.slot.make(self.spec, PRISTINE)
        self.spoil(name)
        self.folder.clones.retire(name)
        return name


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def failing(scene: Scene, *errors: DatabaseError) -> list[str]:
    """The next copies fail with these. Names of all that are tried, each of which has to be noted
    by then.
    """
    tried: list[str] = []
    left, clone = list(errors), scene.server.clone

    def flaky(template: str, name: str, mark: Mark) -> None:
        tried.append(name)
        assert name in scene.noted
        if left:
            raise left.pop(0)
        clone(template, name, mark)

    scene.server.clone = flaky  # type: ignore[method-assign]
    return tried


def test_a_clone_is_noted_before_it_is_made_and_is_the_makers_own(scene: Scene) -> None:
    # Given
    tried = failing(scene)
    # When
    name = scene.slot.make(scene.spec, PRISTINE)
    # Then
    assert tried == scene.noted == [name]
    assert scene.world.databases[name].rows == BOOKS


def test_a_copy_is_tried_again_under_new_names_after_pauses_that_double(scene: Scene) -> None:
    # Given
    tries = 1 + Settings().database_retries
    tried = failing(scene, *[CloneFailed("the template is being accessed by other users")] * tries)
    # When
    with pytest.raises(CloneFailed):
        scene.slot.make(scene.spec, PRISTINE)
    # Then
    assert len(set(tried)) == tries == 4
    first, second, third = scene.clock.waits
    assert 0.2 <= first <= 0.4 <= second <= 0.8 <= third <= 1.6
    assert scene.noted == []


def test_a_copy_that_succeeds_later_is_the_only_one_that_is_noted(scene: Scene) -> None:
    # Given
    tried = failing(scene, CloneFailed("busy"), CloneFailed("busy"))
    # When
    name = scene.slot.make(scene.spec, PRISTINE)
    # Then
    assert tried[-1] == name
    assert scene.noted == [name]


@pytest.mark.parametrize("fault", [ServerFault.DISK, ServerFault.CONNECTIONS])
def test_a_server_that_is_full_is_not_asked_again_at_once(scene: Scene, fault: ServerFault) -> None:
    # Given
    error = CloneFailed("it could not be cloned")
    error.__cause__ = DatabaseError("no space", fault=fault)
    tried = failing(scene, error)
    # When
    with pytest.raises(CloneFailed):
        scene.slot.make(scene.spec, PRISTINE)
    # Then
    assert len(tried) == 1
    assert scene.clock.waits == []
    assert scene.noted == []


@pytest.mark.parametrize("cheaper", [True, False])
def test_a_retired_clone_is_healed_only_where_that_is_cheaper(scene: Scene, cheaper: bool) -> None:
    # Given
    used = scene.retired()
    scene.server.heals = cheaper
    # When
    name = scene.slot.make(scene.spec, PRISTINE)
    # Then
    assert scene.world.databases[name].rows == BOOKS
    assert scene.noted == [name]
    assert (scene.server.stats.healed, used in scene.world.databases) == (
        (1, False) if cheaper else (0, True)
    )


def test_a_clone_that_cannot_be_healed_is_forgotten_and_a_copy_is_made(scene: Scene) -> None:
    # Given
    scene.retired()
    scene.server.heals = True

    def refuse(name: str, template: str, fresh: str, mark: Mark) -> str:
        del scene.world.databases[name]
        raise CloneFailed("its schema was changed")

    scene.server.heal = refuse  # type: ignore[method-assign]
    # When
    name = scene.slot.make(scene.spec, PRISTINE)
    # Then
    assert scene.noted == [name]
    assert scene.folder.clones.retired() == []
    assert scene.world.databases[name].rows == BOOKS


def test_a_server_that_cannot_rename_heals_in_place(scene: Scene) -> None:
    # Given
    used = scene.retired()
    scene.server.heals = True
    scene.server.heal = lambda name, *_: name  # type: ignore[method-assign]
    # When / Then
    assert scene.slot.make(scene.spec, PRISTINE) == used
    assert scene.noted == [used]


def test_an_idle_clone_of_an_earlier_run_is_adopted_under_a_new_name(scene: Scene) -> None:
    # Given
    idle = scene.slot.make(scene.spec, PRISTINE)
    template = scene.slot.template(scene.spec, PRISTINE)
    scene.server.remark(idle, scene.naming.mark("idle", 0, template=template))
    scene.folder.clones.forget(idle)
    # When
    name = scene.slot.adopt(scene.spec, PRISTINE)
    # Then
    assert name not in (None, idle)
    assert scene.noted == [name]


@pytest.mark.parametrize("renames", [True, False])
def test_what_is_adopted_is_noted_under_the_name_that_it_has(scene: Scene, renames: bool) -> None:
    # Given
    scene.server.adopt = lambda template, fresh, mark: fresh if renames else "as-before"  # type: ignore[method-assign]
    # When
    name = scene.slot.adopt(scene.spec, PRISTINE)
    # Then
    assert scene.noted == [name]


def test_nothing_to_adopt_leaves_nothing_noted(scene: Scene) -> None:
    assert scene.slot.adopt(scene.spec, PRISTINE) is None
    assert scene.noted == []


def test_an_adoption_that_fails_leaves_nothing_noted(scene: Scene) -> None:
    # Given
    scene.world.down = True
    # When / Then
    with pytest.raises(DatabaseError):
        scene.slot.adopt(scene.spec, PRISTINE)
    assert scene.noted == []


def test_names_identify_the_maker_of_the_clone_and_never_repeat(scene: Scene) -> None:
    # When
    names = [scene.slot.make(scene.spec, PRISTINE) for _ in range(3)]
    names += [scene.maker("p").make(scene.spec, PRISTINE) for _ in range(3)]
    # Then
    assert len(set(names)) == 6
