import os

import pytest
from conftest import SESSIONS


@pytest.mark.parametrize("number", range(8))
def test_session_lives_on(service, number):
    assert SESSIONS == ["service"]
    assert os.environ["TORTURE_SERVICE"] == str(service)


def test_fails_here(service):
    assert "2" == "4"
