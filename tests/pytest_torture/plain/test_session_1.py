import pytest
from conftest import SESSIONS


@pytest.mark.parametrize("number", range(8))
def test_session_lives_on(service, number):
    assert SESSIONS == ["service"]
    assert (service / "x").exists() == (service / "x").exists()


def test_fails_here(service):
    assert "1" == "4"
