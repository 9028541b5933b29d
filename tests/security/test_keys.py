"""A fleet has a key on both sides, or both sides go without on purpose.

A pool can change its key while it works.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.projects import make_project


def test_without_a_key_nothing_starts_unless_both_sides_say_so(fleet: Fleet, place: Path) -> None:
    # Given
    fleet.key = ""
    project = make_project(place)
    # When neither side has --insecure
    refused = fleet.run(project)
    worker = fleet.worker("silent", wait=False)
    # Then
    assert refused.code == 4
    assert "no signing key is set" in refused.error
    assert "dct keygen" in refused.error
    assert worker.wait() == 4
    assert worker.log.read_text().count("no signing key is set") == 1
    assert "Traceback" not in worker.log.read_text()
    # When both have
    fleet.worker("open", DCT_INSECURE="1")
    finished = fleet.run(project, "--insecure")
    # Then it is said at every run
    assert finished.code == 0, finished
    assert "--insecure: there is no signing key" in finished.err


def test_a_worker_without_a_key_takes_no_signed_run(fleet: Fleet, place: Path) -> None:
    # Given
    fleet.worker("open", DCT_SIGNING_KEY="", DCT_INSECURE="1")
    # When
    finished = fleet.run(make_project(place))
    # Then: no retry helps, and no waiting for --queue-timeout
    assert finished.code == 4, finished
    assert "open@" in finished.out
    assert "has another signing key, or none" in finished.out
    assert finished.seconds < 25


def test_a_pool_changes_its_key_while_runs_go_on(fleet: Fleet, place: Path) -> None:
    # Given workers that know both keys, whichever one signs
    old, new = fleet.key, secrets.token_hex(20)
    project = make_project(place)
    fleet.worker("new-first", DCT_SIGNING_KEY=f"{new} {old}")
    # Then runs with either key are taken, and one with a third is not
    for key, code in ((old, 0), (new, 0), (secrets.token_hex(20), 4)):
        finished = fleet.run(project, DCT_SIGNING_KEY=key)
        assert finished.code == code, finished
