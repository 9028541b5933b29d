import os

FOUND = os.environ["SHELF"]


def test_variable():
    assert os.environ["SHELF"] == FOUND == "oak"
