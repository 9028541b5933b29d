import pytest


@pytest.fixture(scope="session")
def whole():
    yield
    raise RuntimeError("the session is not torn down")


def test_last(whole): ...
