import logging
import warnings

import pytest


def test_passes(server, record_property):
    record_property("kind", "plain")
    print("printed")


def test_fails(server):
    logging.getLogger("shop").warning("logged")
    print("printed before it fails")
    assert {"a": 1} == {"a": 2}


def test_skips():
    pytest.skip("for a reason")


@pytest.mark.xfail(reason="known")
def test_xfails():
    raise AssertionError


def test_warns():
    warnings.warn("old", DeprecationWarning, stacklevel=1)


@pytest.fixture
def broken():
    raise LookupError("no set-up")


def test_broken_set_up(broken): ...


@pytest.mark.parametrize("text", ["a", "<b>", "c::d"])
def test_parameters(text): ...


def test_subtests(subtests):
    for number in range(2):
        with subtests.test("part", number=number):
            assert number != 1
