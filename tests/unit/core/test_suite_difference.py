"""Claims about `core.suite_difference`: the first test that differs, and the likely cause."""

from __future__ import annotations

import uuid

import pytest

from dct_celery.core.suite_difference import Identity, explained


def suite(*names: str) -> list[Identity]:
    return [(name, "app.tests.T", "isolated") for name in names]


def test_the_first_test_that_differs_is_named_on_both_sides() -> None:
    # When
    line = explained(suite("a", "b", "c", "d"), suite("a", "x", "c", "y"))
    # Then
    assert line.startswith("test 2 is b on the dispatcher and x on the worker: ")


@pytest.mark.parametrize(
    ("name", "one", "other", "cause"),
    [
        ("T.test_{}", uuid.UUID(int=7), uuid.UUID(int=2**127), "a uuid is part"),
        ("T.test_0_{}_x", "06f79d3b_c1e0_48cf_bf0e_594e919ebc19",
         "84531156_aeb7_44f6_b386_f3bef8d41e34", "a uuid is part"),
        ("T.test_{}", uuid.UUID(int=7).hex, uuid.UUID(int=8).hex, "a uuid is part"),
        ("T.test_<C object at {}>", "0x7f12ab", "0x55ffee01", "the address of an object"),
        ("T.test_{}", "2026-11-28 10:00:01", "2026-11-28 10:00:02", "a date or time"),
        ("T.test_{}", "2026_11_28T10_00_01", "2026_11_28T10_00_02", "a date or time"),
        ("T.test_{}", "17", "4", "a number"),
        ("T.test_{}", "0.531", "0.9", "a number"),
        ("T.test_{}", "9f8e7d6c5b", "a1b2c3d4e5", "a random value or hash"),
    ],
)  # fmt: skip
def test_a_name_that_is_made_from_a_value_of_the_process_is_recognised(
    name: str, one: object, other: object, cause: str
) -> None:
    # When
    line = explained(suite("T.a", name.format(one)), suite("T.a", name.format(other)))
    # Then
    assert f": {cause}" in line
    assert "names must be the same in every process" in line


@pytest.mark.parametrize("path", ["/srv/work/trees/3-a/tree", "_srv_work_trees_3_a_tree"])
def test_a_name_that_is_made_from_the_path_of_the_code_is_recognised(path: str) -> None:
    # Given
    there, here = suite("T.test_0__home_me_shop_data_x"), suite(f"T.test_0_{path}_data_x")
    # When
    line = explained(there, here, "/srv/work/trees/3-a/tree")
    # Then
    assert ": the path of the project's folder is part of the name" in line
    assert "relative to the project" in line


def test_the_same_tests_in_another_order_are_recognised() -> None:
    # When
    line = explained(suite("a", "b", "c"), suite("a", "c", "b"))
    # Then
    assert line.startswith(
        "test 2 is b on the dispatcher and c on the worker: it is the same tests in"
    )


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        (
            "ab",
            "abc",
            "test 3 is missing on the dispatcher and c on the worker: the dispatcher has no",
        ),
        ("abc", "ac", "test 2 is b on the dispatcher and c on the worker: the worker has no such"),
        ("ac", "abc", "test 2 is c on the dispatcher and b on the worker: the dispatcher has no"),
        ("abc", "", "test 1 is a on the dispatcher and missing on the worker: the worker has no"),
    ],
)
def test_a_test_that_one_side_lacks_is_said_to_be_lacking(there: str, here: str, said: str) -> None:
    assert explained(suite(*there), suite(*here)).startswith(said)


def test_a_module_that_only_the_worker_cannot_import_is_the_cause() -> None:
    # Given
    there = suite("app.tests.A.test_1", "unittest.loader._FailedTest.app.old")
    here = suite("unittest.loader._FailedTest.app.old", "unittest.loader._FailedTest.app.tests")
    why = "ModuleNotFoundError: No module named 'app._version'"
    # When
    line = explained(there, here, unimported={here[0][0]: "SyntaxError", here[1][0]: why})
    # Then
    assert line == f"app.tests cannot be imported on the worker: {why}"


def test_a_test_of_another_kind_is_named_with_its_class_and_kind() -> None:
    # Given
    there, here = [("a", "app.One", "isolated")], [("a", "app.Two", "unmanaged")]
    # Then
    assert explained(there, here).startswith(
        "test 1 is a of class app.One (isolated) on the dispatcher"
        " and a of class app.Two (unmanaged) on the worker: "
    )


def test_what_nothing_explains_is_asked() -> None:
    assert "does the name depend on the process" in explained(suite("red"), suite("blue"))


def test_a_name_without_end_is_cut() -> None:
    assert len(explained(suite("a" * 5000), suite("b" * 5000))) < 1000
