"""Names of clones: never twice, whatever was restarted."""

from __future__ import annotations

from dct_celery.core.names import OURS
from dct_celery.worker.maker import Maker


def test_no_name_comes_twice_though_process_ids_do() -> None:
    # Given two lives of one worker in a container: same run, same name, same process id
    lives = [Maker("run-1", "build-a@host", owner, keep_days=1) for owner in ("one", "two")]
    # When
    names = [maker.clone_name("default", place) for maker in lives for place in (0, 1, "p")]
    # Then
    assert len(set(names)) == len(names)
    assert all(OURS.match(name) for name in names)


def test_only_what_lasts_is_good_for_days() -> None:
    # Given
    maker = Maker("run-1", "build-a@host", "owner", keep_days=10)
    # Then
    assert maker.mark("template", 0).expires == 10 * 86400
    assert maker.mark("idle", 0).expires == 10 * 86400
    assert maker.mark("clone", 0).expires == 86400
