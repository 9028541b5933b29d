"""Claims about `dct replay`: which tests run again, with whose settings, in whose project."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dct_celery.core.model import Manifest, Outcome, RunReport, Verdict
from dct_celery.core.run import events as ev
from dct_celery.core.run.history import History
from dct_celery.dispatcher.past_run import PastRun, from_journal
from dct_celery.dispatcher.replay import plan_replay, request_again, settings_again
from dct_celery.errors import UsageError
from dct_celery.settings import Settings
from tests.support.factories import (
    OTHER_KEY,
    group,
    make_entry,
    make_head,
    make_manifest,
    pool_door,
    run_door,
)
from tests.support.runs import finished
from tests.unit.core.run.test_history import events

SUITE = make_manifest(group("shop.A", count=2), group("shop.B", count=2), group("shop.C", count=1))


def past_of(*happened: Iterable[ev.Event], **fields: Any) -> PastRun:
    head = make_head(SUITE, **fields)
    return PastRun("run-one", head, History.of(event for part in happened for event in part))


def one_process(failed: int | None = 3) -> PastRun:
    ran = [finished(index, "failed" if index == failed else "passed") for index in range(5)]
    return past_of(events("c1", *ran, process=1))


def report_of(suite: Manifest, bad: Iterable[int]) -> RunReport:
    verdicts = tuple(
        Verdict(entry, Outcome.FAILED if entry.index in set(bad) else Outcome.PASSED)
        for entry in suite
    )
    return RunReport("again", verdicts, (), 1 if bad else 0)


def test_without_a_test_the_first_that_failed_is_taken() -> None:
    # When
    replay = plan_replay(one_process(), None)
    # Then
    assert replay.indices == (0, 1, 2, 3)
    assert (replay.part.together, replay.part.about) == (True, ("shop.B.test_1", 0))
    assert replay.opening == (
        "replaying 4 tests in 2 classes that ran in one process of build-a slot 1, up to"
        " shop.B.test_1"
    )


def test_the_list_ends_with_the_class_of_the_test() -> None:
    # When / Then
    assert plan_replay(one_process(), "shop.A.test_0").indices == (0, 1)


def test_the_end_of_an_id_that_two_tests_have_is_as_good_as_the_id() -> None:
    # Given a test that was collected twice
    twice = make_manifest(group("shop.A", count=1), group("shop.A", count=1))
    past = PastRun("run-one", make_head(twice), History.of([]))
    # When / Then
    assert past.index("A.test_0") == past.index("shop.A.test_0") == 0


def of_pytest() -> PastRun:
    """A run of functions and of a class, of which all ran in one process."""
    names = (
        ("tests/test_a.py::test_x[1]", "tests.test_a"),
        ("tests/test_a.py::test_x[a::b]", "tests.test_a"),
        ("tests/test_a.py::test_y", "tests.test_a"),
        ("tests/test_b.py::T::test_x[1]", "tests.test_b.T"),
        ("tests/test_b.py::T::test_y", "tests.test_b.T"),
    )
    suite = Manifest(
        tuple(
            make_entry(
                index, cls, id=id_, keep_with=(f"class:{cls}",) if cls.endswith(".T") else ()
            )
            for index, (id_, cls) in enumerate(names)
        )
    )
    ran = [finished(index) for index in range(5)]
    return PastRun("run-one", make_head(suite), History.of(events("c1", *ran, process=1)))


@pytest.mark.parametrize(
    ("test", "index"),
    [
        ("tests/test_a.py::test_x[1]", 0),
        ("test_a.py::test_x[1]", 0),
        ("test_x[a::b]", 1),
        ("T::test_x[1]", 3),
        ("test_b.py::T::test_y", 4),
    ],
)
def test_a_test_of_pytest_is_known_by_its_node_id_and_by_the_end_of_it(
    test: str, index: int
) -> None:
    assert of_pytest().index(test) == index


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ("test_x[1]", "it may be tests/test_a.py::test_x[1], tests/test_b.py::T::test_x[1]"),
        ("test_y", "it may be tests/test_a.py::test_y, tests/test_b.py::T::test_y"),
        ("test_x", "did you mean tests/test_a.py::test_x[1], tests/test_a.py::test_x[a::b],"),
        ("tests/test_b.py", "did you mean tests/test_b.py::T::test_x[1], tests/test_b.py::T::test"),
        ("test_x[2]", "did you mean "),
        ("est_y", "is no test of run run-one"),
    ],
)
def test_what_is_no_single_test_of_pytest_is_one_line(test: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        of_pytest().index(test)


def test_of_functions_of_pytest_only_the_one_that_is_named_is_the_last() -> None:
    assert plan_replay(of_pytest(), "test_x[a::b]").indices == (0, 1)
    assert plan_replay(of_pytest(), "T::test_x[1]").indices == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("failed", "again", "says"),
    [
        (3, [3], "failed as in run run-one"),
        (3, [], "passed: it failed in run run-one"),
        (None, [3], "failed: it passed in run run-one"),
        (None, [], "passed as in run run-one"),
    ],
)
def test_it_is_said_whether_the_test_did_the_same(
    failed: int | None, again: list[int], says: str
) -> None:
    # Given
    replay = plan_replay(one_process(failed), "B.test_1")
    # When / Then
    assert replay.closing(report_of(SUITE, again)) == f"shop.B.test_1 {says}"


@pytest.mark.parametrize(
    ("past", "test", "says"),
    [
        (one_process(None), None, "nothing failed in run run-one; name a test: dct replay run-one"),
        (one_process(), "shop.B.test_9", "did you mean shop.B.test_"),
        (one_process(), "B", "did you mean shop.B.test_0, shop.B.test_1?"),
        (one_process(), "test_0", "is no single test of run run-one: it may be shop.A.test_0"),
        (past_of(), "shop.C.test_0", "shop.C.test_0 did not run in run run-one"),
        (past_of(events("c1", 4, process=1)[:-1]), "C.test_0", "what ran before it is not known"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(past: PastRun, test: str | None, says: str) -> None:
    # When
    with pytest.raises(UsageError) as refused:
        plan_replay(past, test)
    # Then
    assert says in str(refused.value)


def test_tests_are_those_of_the_run_and_reports_those_of_the_command() -> None:
    # Given
    theirs = Settings(debug_sql=True, failfast=True, reruns=2, junit_xml="theirs.xml", settle=9)
    here = Settings(pool="here", json="here.json", timeout=5.0)
    # When
    settings = settings_again(past_of(settings=theirs), here, {"timeout": 5.0})
    # Then
    assert (settings.debug_sql, settings.pool, settings.timeout) == (True, "here", 5.0)
    assert (settings.failfast, settings.maxfail, settings.reruns) == (False, None, 0)
    assert (settings.junit_xml, settings.json) == (None, "here.json")


@pytest.mark.parametrize(("given", "local"), [({}, 1), ({"local": "4"}, 4), ({"pool": "x"}, None)])
def test_a_run_on_this_machine_alone_is_repeated_there(
    given: dict[str, str], local: int | None
) -> None:
    # Given
    past = replace(past_of(), local=True)
    here = Settings(local=4 if "local" in given else None)
    # When / Then
    assert settings_again(past, here, given).local == local


def at(root: Path, **fields: Any) -> PastRun:
    past = past_of()
    request = replace(past.snapshot.request, root=str(root), **fields)
    return replace(past, snapshot=replace(past.snapshot, request=request))


def test_a_run_of_another_project_is_refused(tmp_path: Path) -> None:
    # Given
    for name in ("shop", "blog"):
        (tmp_path / name).mkdir()
    past = at(tmp_path / "shop")
    # When
    with pytest.raises(UsageError) as refused:
        request_again(past, Settings(project_dir=str(tmp_path / "blog")), tmp_path / "blog", {})
    # Then
    assert str(refused.value) == (
        f"run run-one is of the project in {tmp_path}/shop, not of the one in {tmp_path}/blog; go"
        " there"
    )


def test_a_checkout_on_another_machine_may_lie_anywhere(tmp_path: Path) -> None:
    # Given
    (tmp_path / "shop").mkdir()
    past = at(Path("/builds/1/shop"), arguments=("--failfast", "shop"), seed=7)
    # When
    request = request_again(
        past, Settings(project_dir=str(tmp_path / "shop")), tmp_path / "shop", {"TZ": "CET"}
    )
    # Then: one failure must not end the process
    assert (request.root, request.arguments) == (str(tmp_path / "shop"), ("shop",))
    assert (request.seed, request.hash_seed, request.environment) == (7, "7", {"TZ": "CET"})


def test_variables_that_the_run_passed_on_are_passed_on_again(tmp_path: Path) -> None:
    # Given
    past = at(tmp_path)
    spec = replace(past.snapshot.spec, environment={"SHARD": ""})
    past = replace(past, snapshot=replace(past.snapshot, spec=spec))
    here = {"SHARD": "3", "OTHER": "x"}
    # When
    request = request_again(past, Settings(project_dir=str(tmp_path)), tmp_path, here)
    # Then
    assert request.environment == {"SHARD": "3"}


def test_a_journal_counts_only_if_a_key_of_ours_has_signed_it(tmp_path: Path) -> None:
    # Given
    (tmp_path / "run-one.jsonl").write_text(make_head(SUITE).text(run_door()) + "\n")
    # When
    found = from_journal(tmp_path, "run-one", [(pool_door(OTHER_KEY), False), (pool_door(), True)])
    # Then
    assert found is not None
    assert found.local
    assert from_journal(tmp_path, "run-one", [(pool_door(OTHER_KEY), False)]) is None
    assert from_journal(tmp_path, "run-two", [(pool_door(), False)]) is None
