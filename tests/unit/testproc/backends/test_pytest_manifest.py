"""Claims about which tests of pytest stay together, by what their marks say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.testproc.backends.pytest import manifest


def item(nodeid: str, *marks: Any) -> Any:
    def iter_markers(name: str) -> list[Any]:
        return [one for one in marks if one.name == name]

    return SimpleNamespace(nodeid=nodeid, iter_markers=iter_markers)


def order(**more: Any) -> Any:
    return SimpleNamespace(name="order", kwargs=more)


def dependency(**more: Any) -> Any:
    return SimpleNamespace(name="dependency", kwargs=more)


def linked(*items: Any) -> set[frozenset[str]]:
    """Files that stay together, by what they share."""
    by_name: dict[str, set[str]] = {}
    for file, names in manifest._links(items).items():
        for name in names:
            by_name.setdefault(name, set()).add(file)
    return {frozenset(files) for files in by_name.values()}


@pytest.mark.parametrize(
    "target", ["test_b.py::test_it", "tests/test_b.py::test_it", "../tests/test_b.py::A::test_it"]
)
@pytest.mark.parametrize("key", ["before", "after"])
def test_files_that_an_order_connects_stay_together(target: str, key: str) -> None:
    # Given
    items = [
        item("tests/test_a.py::test_it", order(**{key: target})),
        item("tests/test_b.py::test_it"),
        item("tests/test_c.py::test_it"),
    ]
    # Then
    assert linked(*items) == {frozenset({"tests/test_a.py", "tests/test_b.py"})}


def test_a_list_of_targets_connects_each() -> None:
    # Given
    mark = order(after=["test_b.py::test_it", "test_c.py::test_it", "test_d"])
    items = [item(f"test_{name}.py::test_it", *[mark][: name == "a"]) for name in "abcd"]
    # Then
    assert linked(*items) == {
        frozenset({"test_a.py", "test_b.py"}),
        frozenset({"test_a.py", "test_c.py"}),
    }


@pytest.mark.parametrize(
    "mark",
    [
        order(),
        order(after="test_other"),
        order(after="test_a.py::test_other"),
        order(after="test_unknown.py::test_it"),
        dependency(depends=["test_other"]),
        dependency(depends=["test_b.py::test_it"]),  # a name within the module
        dependency(depends=["A::test_it"], scope="class"),
    ],
)
def test_what_stays_in_the_file_connects_nothing(mark: Any) -> None:
    assert not linked(item("test_a.py::test_it", mark), item("test_b.py::test_it"))


@pytest.mark.parametrize("scope", ["session", "package"])
def test_a_dependency_on_a_test_of_another_file_connects_these_two(scope: str) -> None:
    # Given
    mark = dependency(depends=["test_b.py::test_it"], scope=scope)
    items = [
        item("test_a.py::test_it", mark),
        item("test_b.py::test_it", dependency()),
        item("test_c.py::test_it", dependency()),
    ]
    # Then
    assert linked(*items) == {frozenset({"test_a.py", "test_b.py"})}


def test_a_dependency_by_a_name_of_its_own_connects_all_that_have_the_mark() -> None:
    # Given
    items = [
        item("test_a.py::test_it", dependency(depends=["x"], scope="session")),
        item("test_b.py::test_it", dependency(name="x")),
        item("test_c.py::test_it"),
    ]
    # Then
    assert linked(*items) == {frozenset({"test_a.py", "test_b.py"})}
