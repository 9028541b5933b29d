import os

import pytest


def test_apart():
    assert os.environ.get("TORTURE_APART") is None


@pytest.mark.xdist_group("shared")
def test_finds():
    assert os.environ.pop("TORTURE_SHARED") == "1"
