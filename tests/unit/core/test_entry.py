"""Claims about the nouns of a run."""

from __future__ import annotations

import pytest

from dct_celery.core.backends import rerun_after
from dct_celery.core.model import Entry, Phase


def entry(identity: str, cls: str, label: str = "", *tied: str) -> Entry:
    return Entry(0, identity, cls, cls, Phase.NO_DATABASE, label=label, keep_with=tied)


@pytest.mark.parametrize(
    ("identity", "cls", "name"),
    [
        ("shop.tests.T.test_x", "shop.tests.T", "test_x"),
        ("shop.tests.T", "shop.tests.T", "shop.tests.T"),
        ("elsewhere", "shop.tests.T", "elsewhere"),
        ("tests/test_a.py::test_x", "tests.test_a", "test_x"),
        ("tests/test_a.py::test_x[a::b]", "tests.test_a", "test_x[a::b]"),
        ("tests/test_a.py::T::test_x[c/d]", "tests.test_a.T", "test_x[c/d]"),
        ("tests/test_a.py::T::U::test_x", "tests.test_a.T.U", "test_x"),
        ("test_a.py", "test_a", "test_a.py"),
    ],
)
def test_a_test_has_the_name_that_its_class_gives_it(identity: str, cls: str, name: str) -> None:
    assert entry(identity, cls).name == name


def test_a_command_for_classes_of_pytest_names_them_as_pytest_does() -> None:
    # Given
    before = [
        entry("a.py::T::test_x[m::n]", "a.T", "", "class:a.py::T"),
        entry("b.py::test_y[b]", "b"),
        entry("c.py::test_z", "c", "sub/c.py::test_z", "module:c.py"),
        entry("d.py::T::test_z", "d.T", "", "class:d.py::T", "module:d.py"),
    ]
    test = entry("e.py::test_z", "e", "sub/e.py::test_z")
    # Then
    assert rerun_after(["python", "-m", "pytest"], before, test) == (
        "python -m pytest a.py::T 'b.py::test_y[b]' sub/c.py d.py sub/e.py::test_z"
    )


def test_what_no_plan_takes_apart_is_a_class_or_a_test_alone() -> None:
    assert entry("shop.T.test_x", "shop.T", "", "class:shop.T").unit == "shop.T"
    assert entry("a.py::test_x", "a", "", "module:a.py").unit == "a"
    assert entry("a.py::test_x", "a", "", "group:one").unit == "a.py::test_x"
    assert entry("a.py::test_x[1]", "a").unit == "a.py::test_x[1]"
