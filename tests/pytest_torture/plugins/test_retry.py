import pytest

calls = {"second": 0, "third": 0}


@pytest.mark.flaky(retries=2)
def test_passes_the_second_time():
    calls["second"] += 1
    assert calls["second"] == 2


@pytest.mark.flaky(retries=1, delay=0)
def test_never_passes():
    calls["third"] += 1
    assert calls["third"] == 30


def test_without_a_mark():
    raise AssertionError
