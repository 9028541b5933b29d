import pytest

calls = {"second": 0, "third": 0, "setup": 0}


@pytest.mark.flaky(reruns=2)
def test_passes_the_second_time():
    calls["second"] += 1
    print("attempt", calls["second"])
    assert calls["second"] == 2


@pytest.mark.flaky(reruns=1)
def test_never_passes():
    calls["third"] += 1
    assert calls["third"] == 3


@pytest.fixture
def slow_to_start():
    calls["setup"] += 1
    if calls["setup"] < 2:
        raise OSError("not up yet")


@pytest.mark.flaky(reruns=2, reruns_delay=0)
def test_of_a_fixture(slow_to_start): ...


@pytest.mark.flaky(reruns=1)
def test_with_subtests(subtests):
    with subtests.test(n=1):
        assert subtests == 5


def test_without_a_mark():
    raise AssertionError
