"""Claims about `--concurrency` of a worker's command."""

from __future__ import annotations

import click
import pytest
from celery.bin.worker import worker

from dct_celery.adapters.celeryqueue import concurrency
from dct_celery.adapters.celeryqueue.concurrency import Concurrency, accept_auto
from dct_celery.errors import MachineUnfit
from dct_celery.machine import Slots


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "room", lambda: Slots(3, "3 of 8 slots: little memory"))


@pytest.mark.usefixtures("limited")
def test_auto_is_what_the_machine_has_room_for_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert Concurrency(click.INT, None).convert("auto", None, None) == 3
    assert capsys.readouterr().err == "dct: 3 of 8 slots: little memory\n"


@pytest.mark.usefixtures("limited")
def test_it_is_no_more_than_the_setting_allows(capsys: pytest.CaptureFixture[str]) -> None:
    assert Concurrency(click.INT, 2).convert("auto", None, None) == 2
    assert capsys.readouterr().err == "dct: 3 of 8 slots: little memory, at most 2\n"


def test_any_other_value_is_celerys(capsys: pytest.CaptureFixture[str]) -> None:
    assert Concurrency(click.INT, None).convert("2", None, None) == 2
    with pytest.raises(click.BadParameter):
        Concurrency(click.INT, None).convert("many", None, None)
    assert capsys.readouterr().err == ""


def test_a_machine_without_room_for_one_is_a_line_and_exit_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given
    def unfit() -> Slots:
        raise MachineUnfit("256 MiB of memory")

    monkeypatch.setattr(concurrency, "room", unfit)
    # When
    with pytest.raises(SystemExit) as ended:
        Concurrency(click.INT, None).convert("auto", None, None)
    # Then
    assert ended.value.code == 4
    assert capsys.readouterr().err == "dct: error: --concurrency auto: 256 MiB of memory\n"


@pytest.mark.usefixtures("limited")
def test_the_command_of_celery_understands_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    (option,) = (one for one in worker.params if one.name == "concurrency")
    monkeypatch.setattr(option, "type", option.type)
    # When
    accept_auto(None)
    # Then
    assert option.type.convert("auto", option, None) == 3
    assert int(option.type.convert("5", option, None)) == 5
