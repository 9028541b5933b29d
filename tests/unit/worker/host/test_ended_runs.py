"""Claims about `worker.host.ended_runs`: a run that is over for this worker stays over, whatever
announces it again.
"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dct_celery.ports import Announced
from dct_celery.protocol.runs import Announcement
from dct_celery.worker.host import ended_runs
from dct_celery.worker.host.ended_runs import EndedRuns
from tests.support.factories import KEY_ID, LATER_MS, NONCE


def announced(epoch: int = 1, nonce: str = NONCE, run: str = "run-one") -> Announced:
    return Announced(Announcement(run, nonce, epoch, LATER_MS), KEY_ID)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ended.json"


def test_a_run_that_has_not_ended_is_not_over(file: Path) -> None:
    assert not EndedRuns(file).covers(announced())


def test_a_run_that_has_ended_is_over_also_after_a_restart(file: Path) -> None:
    # Given
    runs = EndedRuns(file)
    # When
    runs.note(NONCE, 2)
    # Then what was recorded of it does not bring it back
    for one in (runs, EndedRuns(file)):
        assert one.covers(announced(epoch=2))
        assert one.covers(announced(epoch=1))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_newer_epoch_is_not_over(file: Path) -> None:
    # Given
    EndedRuns(file).note(NONCE, 2)
    # Then
    assert not EndedRuns(file).covers(announced(epoch=3))


def test_the_epoch_of_the_last_end_counts(file: Path) -> None:
    # Given
    runs = EndedRuns(file)
    runs.note(NONCE, 1)
    # When
    runs.note(NONCE, 3)
    # Then
    assert EndedRuns(file).covers(announced(epoch=2))


def test_another_run_of_the_same_name_is_another_run(file: Path) -> None:
    # Given
    EndedRuns(file).note(NONCE, 1)
    # Then
    assert not EndedRuns(file).covers(announced(nonce="f" * 16))
    assert EndedRuns(file).covers(announced(run="another-name"))


def test_the_latest_runs_are_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr(ended_runs, "_KEPT", 3)
    runs = EndedRuns(file)
    # When
    for number in (0, 1, 2, 0, 3):
        runs.note(f"{number:016}", 1)
    # Then
    again = EndedRuns(file)
    assert [again.covers(announced(nonce=f"{number:016}")) for number in range(4)] == [
        True,
        False,
        True,
        True,
    ]


def test_a_disk_that_takes_nothing_lets_a_run_end(file: Path) -> None:
    # Given
    file.mkdir()
    runs = EndedRuns(file)
    # When
    runs.note(NONCE, 1)
    # Then it is known as long as this process lives
    assert runs.covers(announced())
    assert not EndedRuns(file).covers(announced())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a":"1"}',
        b'{"a":true}',
        b'{"a":1e999}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_damaged_file_counts_as_empty_and_is_rewritten(file: Path, text: bytes) -> None:
    # Given
    file.write_bytes(text)
    runs = EndedRuns(file)
    assert not runs.covers(announced())
    # When
    runs.note(NONCE, 1)
    # Then
    assert EndedRuns(file).covers(announced())


def test_no_bytes_in_the_file_keep_a_worker_from_its_start(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("ended") / "ended.json"

    @settings(deadline=None)
    @given(st.binary(max_size=60))
    def check(data: bytes) -> None:
        file.write_bytes(data)
        assert not EndedRuns(file).covers(announced())

    check()
