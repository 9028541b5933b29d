import pytest


@pytest.mark.dependency(depends=["test_dependency.py::test_b"], scope="session")
def test_needs_b_of_another_file(): ...


@pytest.mark.dependency(depends=["test_dependency.py::test_a"], scope="session")
def test_needs_a_of_another_file(): ...
