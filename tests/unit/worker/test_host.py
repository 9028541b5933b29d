"""Claims about `worker.host`."""

from __future__ import annotations

from dct_celery.worker import host
from dct_celery.worker.host import pause_after


def test_a_look_that_takes_long_is_followed_by_a_longer_pause() -> None:
    assert [pause_after(seconds) for seconds in (0.0, 0.005, 0.05, 0.1)] == [host.LOOK, host.LOOK, 0.5, 1.0]


def test_a_store_that_stood_still_is_looked_at_again_before_the_worker_counts_as_gone() -> None:
    assert pause_after(15.0) + host.BEAT < host.HORIZON / 2
