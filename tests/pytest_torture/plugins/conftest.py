"""A file of tests for each plugin; which plugins are there, the command line says."""

import pytest

#: Names of the tests that this process has run.
ran = []


@pytest.fixture(scope="session")
def server():
    yield "server"


def pytest_runtest_teardown(item):
    ran.append(item.name)

