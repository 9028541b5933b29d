"""A project whose suite holds a test for each trap of running pytest anywhere but in one process.

Many tests fail on purpose: only the sequential run says what is right.
"""

import os
import socket

import pytest

collect_ignore = [] if "broken" in os.environ.get("TORTURE_TOO", "") else ["broken"]
#: Set-ups of fixtures of the session in this process.
SESSIONS = []


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    SESSIONS.append("service")
    folder = tmp_path_factory.mktemp("service")
    os.environ["TORTURE_SERVICE"] = str(folder)
    with socket.create_server(("127.0.0.1", 0)):
        yield folder
    SESSIONS.remove("service")


def pytest_collection_modifyitems(items):
    """The order that counts is the one behind all hooks."""
    turned = [item for item in items if item.path.name == "test_turned.py"]
    places = [place for place, item in enumerate(items) if item in turned]
    for place, item in zip(places, reversed(turned)):
        items[place] = item


def pytest_runtest_protocol(item):
    """The test is over without a report."""
    return True if item.name == "test_left_out_by_a_hook" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if item.get_closest_marker("red"):
        report.colour = object()  # does not serialize
        report.number = {1, 2}
    return report
