import pytest


@pytest.mark.parametrize("number", range(6))
def test_matches(snapshot, number):
    assert {"number": number, "words": ["a", "b"]} == snapshot


def test_is_another(snapshot):
    assert [1, 2, 4] == snapshot
