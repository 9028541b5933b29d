import time

import pytest


@pytest.fixture
def slow_fixture():
    time.sleep(0.02)


@pytest.mark.parametrize("number", range(3))
def test_with_a_slow_fixture(slow_fixture, number):
    time.sleep(0.01)
