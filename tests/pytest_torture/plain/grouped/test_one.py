import os

import pytest

pytestmark = pytest.mark.xdist_group("shared")


def test_sets():
    os.environ["TORTURE_SHARED"] = "1"
