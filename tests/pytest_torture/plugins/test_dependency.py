import pytest


@pytest.mark.dependency
def test_a():
    raise AssertionError


@pytest.mark.dependency
def test_b(): ...


@pytest.mark.dependency(depends=["test_a"])
def test_needs_a(): ...


@pytest.mark.dependency(depends=["test_b"])
def test_needs_b(): ...
