"""A file of tests for each plugin; which plugins are there, the command line says."""

import os
from time import sleep  # before a test travels in time

import pytest

#: Added to each test, so that one worker does not run all before the other is ready.
SECONDS = float(os.environ.get("TORTURE_SECONDS", "0"))

#: Node ids of the tests that this process has run.
ran = []


@pytest.fixture(scope="session")
def server():
    yield "server"


def pytest_runtest_teardown(item):
    ran.append(item.nodeid)
    sleep(SECONDS)

