ran = []


def test_third():
    assert ran == ["first", "second"]


def test_second():
    ran.append("second")
    assert ran == ["first", "second"]


def test_first():
    ran.append("first")


import pytest  # noqa: E402

pytestmark = pytest.mark.order
