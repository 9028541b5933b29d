import datetime
import time

import freezegun
import pytest
import time_machine

LONG_AGO = "2001-02-03 04:05:06"


@freezegun.freeze_time(LONG_AGO)
def test_frozen():
    assert datetime.datetime.now().year == 2001


@time_machine.travel("1999-12-31 23:59", tick=False)
def test_travelled():
    assert time.gmtime().tm_year == 1999


def test_travelling_fixture(time_machine):
    time_machine.move_to("2040-01-01")
    assert time.gmtime().tm_year == 2040


@pytest.mark.freeze_time(LONG_AGO)
def test_freezer(freezer):
    freezer.tick(10)
    assert datetime.datetime.now().second == 16


def test_now():
    assert time.gmtime().tm_year > 2020
