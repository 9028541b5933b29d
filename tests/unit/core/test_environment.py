"""Claims about `core.environment`: what decides verdicts is compared, and only that."""

from __future__ import annotations

import pytest

from dct_celery.core.environment import (
    UNSET,
    WRITTEN,
    Ignored,
    differences,
    fingerprint,
    hints,
    normal,
    of_machine,
    told,
)

NOTHING = Ignored()
SAME = {"python": "3.11.7", "package:django": "5.2", "loaded": "django", "setting:USE_TZ": "True"}


def texts(there: dict[str, str], here: dict[str, str], ignored: Ignored = NOTHING) -> list[str]:
    return [one.text for one in differences({**SAME, **there}, {**SAME, **here}, ignored)]


def test_equal_environments_do_not_differ() -> None:
    assert texts({}, {}) == []


@pytest.mark.parametrize("side", ["there", "here"])
def test_a_package_more_on_one_side_stops_nothing(side: str) -> None:
    # Given
    more = {"package:toml": "0.10"}
    # Then
    assert texts(more if side == "there" else {}, more if side == "here" else {}) == []


@pytest.mark.parametrize("side", ["there", "here"])
def test_one_that_the_project_imports_on_one_side_and_lacks_on_the_other_differs(side: str) -> None:
    # Given: a driver that Django prefers where it is
    more = {"package:psycopg": "3.3", "loaded": "django,psycopg"}
    # When
    found = texts(more if side == "there" else {}, more if side == "here" else {})
    # Then
    has, lacks = ("dispatcher", "worker") if side == "there" else ("worker", "dispatcher")
    (text,) = found
    assert f"3.3 on the {has}" in text
    assert f"missing on the {lacks}" in text


def test_versions_of_what_is_imported_differ() -> None:
    assert texts({}, {"package:django": "5.1"}) == [
        "django is 5.1 on the worker and 5.2 on the dispatcher"
    ]


def test_versions_of_what_is_neither_imported_nor_named_do_not_count() -> None:
    assert texts({"package:black": "1"}, {"package:black": "2"}) == []


def test_what_the_requirements_name_counts_where_both_sides_have_it() -> None:
    # Given
    named = {"declared": "boto3,black"}
    # Then
    assert texts({**named, "package:boto3": "1"}, {**named, "package:boto3": "2"}) == [
        "boto3 is 2 on the worker and 1 on the dispatcher"
    ]
    assert texts({**named, "package:black": "1"}, named) == []


@pytest.mark.parametrize("glob", ["django", "Django", "*", "dj*"])
def test_packages_are_ignored_by_globs(glob: str) -> None:
    assert texts({}, {"package:django": "5.1"}, Ignored(packages=[glob])) == []


def test_installers_never_count() -> None:
    there = {"package:pip": "1", "loaded": "django,pip,setuptools", "package:setuptools": "2"}
    assert texts(there, {"package:pip": "2"}) == []


def test_the_interpreter_and_the_settings_differ_by_name() -> None:
    found = differences(SAME, {**SAME, "python": "3.12.1", "setting:USE_TZ": "False"}, NOTHING)
    assert [(one.text, one.fix) for one in found] == [
        (
            "python is 3.12.1 on the worker and 3.11.7 on the dispatcher",
            "use the same interpreter on both sides",
        ),
        (
            "USE_TZ is False on the worker and True on the dispatcher",
            "use the same settings on both sides",
        ),
    ]


@pytest.mark.parametrize(
    ("there", "here", "state"),
    [
        ("7f", UNSET, "is set on the dispatcher and not on the worker"),
        (UNSET, "7f", "is set on the worker and not on the dispatcher"),
        ("7f", "cd", "has another value on the worker"),
    ],
)
def test_a_variable_that_the_project_reads_is_named_without_its_value(
    there: str, here: str, state: str
) -> None:
    # When
    (found,) = differences({"variable:FEATURE": there}, {"variable:FEATURE": here}, NOTHING)
    # Then
    assert found.text == f"the variable FEATURE, which the project reads, {state}"
    assert ("--env FEATURE" in found.fix) == (there != UNSET)
    assert ("unset it there, or set it here" in found.fix) == (there == UNSET)
    assert "--ignore-env FEATURE" in found.fix
    assert "7f" not in told([found])


def test_variables_that_may_differ_are_ignored_by_globs() -> None:
    sides = {"variable:APP_ID": "1"}, {"variable:APP_ID": "2"}
    assert differences(*sides, Ignored(variables=["APP_*"])) == []
    assert len(differences(*sides, Ignored(variables=["app_*"]))) == 1


def test_one_that_only_one_side_reads_is_the_effect_of_another() -> None:
    assert texts({"variable:A": "1", "variable:B": "1"}, {"variable:A": "1"}) == []


def test_each_machine_has_its_own_way_to_the_database() -> None:
    # Given
    sides = {"address:DB_HOST": "1"}, {"variable:DB_HOST": UNSET}
    # Then
    assert differences(*sides, NOTHING) == []
    assert [one.text for one in hints(*sides, NOTHING)] == [
        "the variable DB_HOST, which the project reads, is set on the dispatcher and not on the"
        " worker"
    ]
    assert hints(*sides, Ignored(variables=["DB_*"])) == []


def test_a_line_names_a_few_and_says_how_many_more() -> None:
    # Given
    there, here = {f"setting:S{n}": "1" for n in range(7)}, {f"setting:S{n}": "2" for n in range(7)}
    # When
    line = told(differences(there, here, NOTHING))
    # Then
    assert line.count(" on the dispatcher") == 5
    assert line.endswith("; and 2 more (use the same settings on both sides)")


def test_names_of_distributions_are_compared_as_pip_does() -> None:
    assert normal("Zope.Interface") == normal("zope_interface") == "zope-interface"


def test_a_fingerprint_depends_on_each_text_and_on_the_key() -> None:
    # Given
    texts = [("k", "a", "b"), ("k", "ab", ""), ("l", "a", "b"), ("k", "a", "c"), ("k", "\udcff")]
    # Then
    assert len({fingerprint(*each) for each in texts}) == len(texts)
    assert fingerprint("k", "a", "b") == fingerprint("k", "a", "b")


def test_what_a_run_would_refuse_is_known_before_the_worker_has_loaded_the_project() -> None:
    # Given
    there = {
        **SAME,
        "flags": "000",
        "variable:SAME": fingerprint("k", "SAME", "1"),
        "variable:OTHER": fingerprint("k", "OTHER", "1"),
        "variable:MISSING": fingerprint("k", "MISSING", "1"),
        "variable:PASSED_ON": fingerprint("k", "PASSED_ON", "1"),
        "variable:UNSET_HERE": UNSET,
        "variable:OF_A_FILE": WRITTEN,
    }
    theirs = {
        fingerprint("k", name): fingerprint("k", name, value)
        for name, value in {"SAME": "1", "OTHER": "2", "UNSET_HERE": "1"}.items()
    }
    facts = {"python": "3.11.7", "package:django": "5.1", "flags": "010"}
    # When
    here = of_machine(there, facts, theirs, "k", {"PASSED_ON"})
    # Then
    assert [
        one.text.removeprefix("the variable ") for one in differences(there, here, NOTHING)
    ] == [
        "django is 5.1 on the worker and 5.2 on the dispatcher",
        "MISSING, which the project reads, is set on the dispatcher and not on the worker",
        "OTHER, which the project reads, has another value on the worker",
        "UNSET_HERE, which the project reads, is set on the worker and not on the dispatcher",
    ]
