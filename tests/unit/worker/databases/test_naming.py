"""Names of clones: never twice, whatever was restarted."""

from __future__ import annotations

from dct_celery.core.databases.names import OURS
from dct_celery.worker.databases.naming import CloneNaming


def test_no_name_comes_twice_though_process_ids_do() -> None:
    # Given two lives of one worker in a container: same run, same name, same process id
    lives = [CloneNaming("run-1", "build-a@host", owner, keep_days=1) for owner in ("one", "two")]
    # When
    names = [naming.clone_name("default", place) for naming in lives for place in (0, 1, "p")]
    # Then
    assert len(set(names)) == len(names)
    assert all(OURS.match(name) for name in names)


def test_only_what_lasts_is_good_for_days() -> None:
    # Given
    naming = CloneNaming("run-1", "build-a@host", "owner", keep_days=10)
    # Then
    assert naming.mark("template", 0).expires == 10 * 86400
    assert naming.mark("idle", 0).expires == 10 * 86400
    assert naming.mark("clone", 0).expires == 86400
