"""The JUnit document, read as its consumers read it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dct_celery.core.model import (
    FLAKY,
    Artifact,
    Entry,
    Failure,
    FixtureRef,
    FixtureVerdict,
    OrderKind,
    OrderNote,
    Outcome,
    Phase,
    RunReport,
    Verdict,
)
from dct_celery.reports.junit import document
from dct_celery.reports.junit.document import ArtifactFolder, render

RESULTS = {"failure", "error", "skipped"}
FOLDER = ArtifactFolder(from_job="out/artifacts", from_report="artifacts")


def verdict(
    name: str = "test_a", outcome: Outcome = Outcome.PASSED, *, cls: str = "app.T", **more: object
) -> Verdict:
    entry = Entry(0, f"{cls}.{name}", cls, "app", Phase.ISOLATED, "app/tests.py", 7, tags=("slow",))
    return Verdict(entry, outcome, **more)  # type: ignore[arg-type]


def failed(
    name: str = "test_a", *, text: str = "Traceback ...", message: str = "1 != 2", output: str = ""
) -> Verdict:
    failure = Failure("failure", "AssertionError", message, text)
    return verdict(name, Outcome.FAILED, failures=(failure,), output=output)


def report(*verdicts: Verdict, **more: object) -> RunReport:
    return RunReport("r1", verdicts, **{"fixtures": (), "exit_code": 0, **more})  # type: ignore[arg-type]


def rendered(*verdicts: Verdict, **more: object) -> ET.Element:
    return ET.fromstring(render(report(*verdicts, **more)))


def only(root: ET.Element, path: str) -> ET.Element:
    [element] = root.findall(f".//{path}")
    return element


# --- shape
# --------------------------------------------------------------------------------------


def test_there_is_one_suite_per_class_even_where_its_cases_lie_apart() -> None:
    # When
    root = rendered(verdict(cls="app.A"), verdict(cls="app.B"), verdict("test_b", cls="app.A"))

    # Then
    assert [(s.get("name"), s.get("tests")) for s in root] == [("app.A", "2"), ("app.B", "1")]


def test_a_suite_names_the_start_the_host_of_most_of_its_cases_and_the_file() -> None:
    # Given
    workers = ["build-a", "build-b", "build-b", None]
    verdicts = [
        verdict(f"test_{i}", worker=worker, seconds=0.0004) for i, worker in enumerate(workers)
    ]

    # When
    suite = only(
        rendered(*verdicts, started_at=1_795_222_923.9, hosts={"build-b": "host-b"}), "testsuite"
    )

    # Then
    assert suite.attrib == {
        "name": "app.T",
        "tests": "4",
        "failures": "0",
        "errors": "0",
        "skipped": "0",
        "time": "0.002",
        "timestamp": "2026-11-21T01:02:03",
        "hostname": "host-b",
        "file": "app/tests.py",
    }


@pytest.mark.parametrize("outcome", [Outcome.PASSED, Outcome.XPASSED])
@pytest.mark.parametrize("worker", [None, "build-a"])
def test_a_case_says_what_the_test_used_as_far_as_it_is_not_zero(
    outcome: Outcome, worker: str | None
) -> None:
    # Given a case that is written at once, and one that is cut to limits first
    output = "" if outcome is Outcome.PASSED else "words"
    used = verdict(outcome=outcome, worker=worker, output=output, measured="3,,1,412,,-4")

    # When
    properties = {one.get("name"): one.get("value") for one in rendered(used).iter("property")}

    # Then
    measured = {name: properties.get(f"dct.{name}") for name in ("queries", "reads", "writes")}
    assert measured == {"queries": "3", "reads": None, "writes": "1"}
    assert (properties["dct.db_seconds"], properties["dct.rss_growth"]) == ("0.000412", "-4096")


def test_what_tests_used_is_the_first_to_go_from_a_file_that_becomes_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    used = [verdict(f"test_{n}", measured="3,,1,412") for n in range(10)]
    monkeypatch.setattr(document, "FILE_LIMIT", 10 * 400 + 100)

    # When
    properties = {one.get("name"): one.get("value") for one in rendered(*used).iter("property")}

    # Then
    assert "dct.queries" not in properties
    assert properties["dct.cut"] == "metrics"


def test_a_case_says_where_it_ran_and_where_it_is_defined() -> None:
    # When
    note = OrderNote(OrderKind.FLAKY, "", "failed and passed after the same classes")
    ran = verdict(worker="build-a", slot=0, attempt=2, seconds=1.23456, order=note)
    case = only(rendered(ran), "testcase")

    # Then
    expected = {
        "classname": "app.T",
        "name": "test_a",
        "time": "1.235",
        "file": "app/tests.py",
        "line": "7",
    }
    assert case.attrib == expected
    properties = [(p.get("name"), p.get("value")) for p in case.findall("properties/property")]
    assert properties == [
        ("dct.worker", "build-a"),
        ("dct.slot", "0"),
        ("dct.attempt", "2"),
        ("dct.tag", "slow"),
        ("dct.order", f"{FLAKY}: it failed and passed after the same classes"),
    ]


def test_cases_of_two_workers_do_not_share_their_properties() -> None:
    # Given three cases of which the first and the last may share
    cases = [
        verdict("test_a", worker="a"),
        verdict("test_b", worker="b"),
        verdict("test_c", worker="a"),
    ]

    # When
    root = rendered(*cases)

    # Then
    assert [p.get("value") for p in root.iter("property") if p.get("name") == "dct.worker"] == [
        "a",
        "b",
        "a",
    ]


def test_a_line_break_in_a_subtest_does_not_break_the_message() -> None:
    # Given
    failure = Failure(
        "failure", "AssertionError", "1 != 2", "Traceback ...", subtest="(text='a\r\nb')"
    )

    # When
    element = only(rendered(verdict(outcome=Outcome.FAILED, failures=(failure,))), "failure")

    # Then
    assert element.get("message") == "(text='a b') 1 != 2"
    assert (element.text or "").startswith("(text='a b') 1 != 2")


def test_the_children_of_a_case_come_in_the_order_that_readers_expect() -> None:
    # Given
    bad = verdict(outcome=Outcome.ERROR, worker="w", output="printed", sql="SELECT 1")

    # When
    case = only(rendered(bad), "testcase")

    # Then
    assert [child.tag for child in case] == ["properties", "error", "system-out", "system-err"]


def test_a_run_states_its_facts_in_every_suite() -> None:
    # When
    root = rendered(verdict(), properties={"python": "3.13"}, complete=False, note="interrupted")

    # Then
    properties = {
        p.get("name"): p.get("value") for p in root.findall("testsuite/properties/property")
    }
    assert properties == {
        "dct.run_id": "r1",
        "python": "3.13",
        "dct.complete": "false",
        "dct.note": "interrupted",
    }


def test_repeated_names_are_told_apart_and_never_collide() -> None:
    # Given names that differ only in what is stripped, and one that has the suffix by itself
    names = ["test_a", "test_a [2]", "test_a", "\x1b[1mtest_a", "test_a [2]"]

    # When
    root = rendered(*map(verdict, names))

    # Then
    assert [case.get("name") for case in root.iter("testcase")] == [
        "test_a",
        "test_a [2]",
        "test_a [3]",
        "test_a [4]",
        "test_a [2] [2]",
    ]


@pytest.mark.parametrize("started_at", [0.0, -1.0, 1e18, math.nan, math.inf])
def test_an_unknown_start_has_no_timestamp(started_at: float) -> None:
    # When / Then
    assert "timestamp" not in only(rendered(verdict(), started_at=started_at), "testsuite").attrib


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 1e-5])
def test_odd_seconds_are_written_as_zero(seconds: float) -> None:
    # When / Then: junit-10.xsd cannot express them
    assert only(rendered(verdict(seconds=seconds)), "testcase").get("time") == "0.000"


# --- limits
# --------------------------------------------------------------------------------------


def test_a_long_text_keeps_head_and_tail_and_the_case_says_that_it_was_cut() -> None:
    # Given
    trace = "Traceback" + "x" * 1_000_000 + "last line"

    # When
    case = only(rendered(failed(text=trace, output="y" * 100_000)), "testcase")

    # Then
    failure, output = only(case, "failure").text or "", only(case, "system-out").text or ""
    assert len(failure) <= document.TEXT_LIMITS[0][0] + document.LINE_LIMIT + 2
    assert len(output) <= document.TEXT_LIMITS[0][1]
    assert "Traceback" in failure
    assert failure.endswith("last line")
    assert "characters cut" in failure
    assert only(case, "property[@name='dct.cut']").get("value") == "failure,system-out"


def test_a_message_is_at_most_a_kilobyte_and_still_starts_the_text() -> None:
    # When
    failure = only(rendered(failed(message="m" * 5000)), "failure")

    # Then
    message = failure.get("message") or ""
    assert len(message) <= 1024
    assert (failure.text or "").startswith(message)


def test_a_file_of_many_large_failures_stays_below_what_gitlab_takes() -> None:
    # Given 500 traces of 200 kB: 100 MB
    trace = "z" * 200_000
    verdicts = [failed(f"test_{i}", text=trace) for i in range(500)]

    # When
    data = render(report(*verdicts))

    # Then
    assert len(data) < document.FILE_LIMIT
    assert data.count(b"<failure") == 500


@pytest.mark.parametrize(("limit", "kept"), [(5_300, True), (5_100, False)])
def test_short_texts_count_where_a_long_one_might_not_fit(
    monkeypatch: pytest.MonkeyPatch, limit: int, kept: bool
) -> None:
    # Given texts of 4,000 characters and 1,200 for the cases themselves
    monkeypatch.setattr(document, "FILE_LIMIT", limit)
    skips = [verdict(f"test_{i}", Outcome.SKIPPED, reason="r" * 1000) for i in range(2)]

    # When
    failure = only(rendered(*skips, failed(text="t" * 2000)), "failure")

    # Then
    assert ("t" * 2000 in (failure.text or "")) is kept


# --- consumers: what each of them would show
# --------------------------------------------------------------------------


def gitlab(root: ET.Element) -> Iterator[tuple[str, str, str | None, str, str]]:
    """Of a name that comes twice the first one counts; only element text is shown."""
    seen = set()
    for case in root.iter("testcase"):
        key = case.get("classname"), case.get("name")
        if key in seen:
            continue
        seen.add(key)
        result = next((child for child in case if child.tag in RESULTS), None)
        text = "" if result is None else result.text or ""
        yield (
            case.attrib["classname"],
            case.attrib["name"],
            case.get("file"),
            "" if result is None else result.tag,
            text,
        )


def jenkins(root: ET.Element) -> Iterator[tuple[str, str, str]]:
    """Error before failure, its text before its message; a suite without cases is dropped."""
    for suite in root.iter("testsuite"):
        for case in suite.findall("testcase"):
            result = next(
                (
                    found
                    for tag in ("error", "failure", "skipped")
                    if (found := case.find(tag)) is not None
                ),
                None,
            )
            detail = "" if result is None else result.text or result.attrib["message"]
            yield case.attrib.get("classname", suite.attrib["name"]), case.attrib["name"], detail


def circleci(root: ET.Element) -> list[str]:
    """Rerun of failed tests: needs a file (or class) for each."""
    bad = [
        c
        for c in root.iter("testcase")
        if c.find("failure") is not None or c.find("error") is not None
    ]
    return [case.get("file") or case.attrib["classname"] for case in bad]


def test_gitlab_shows_the_message_and_every_case() -> None:
    # Given
    verdicts = [
        failed("test_a"),
        failed("test_a"),
        verdict("test_b", Outcome.SKIPPED, reason="no disk\nat all"),
    ]

    # When
    shown = list(gitlab(rendered(*verdicts)))

    # Then
    assert shown == [
        ("app.T", "test_a", "app/tests.py", "failure", "1 != 2\n\nTraceback ..."),
        ("app.T", "test_a [2]", "app/tests.py", "failure", "1 != 2\n\nTraceback ..."),
        ("app.T", "test_b", "app/tests.py", "skipped", "no disk\nat all"),
    ]


def test_gitlab_and_jenkins_find_the_files_of_a_test() -> None:
    # Given tests that printed something, with a line end and without one
    files = (Artifact("output.txt", 9, "0" * 40), Artifact("page.png", 9, "1" * 40))
    failures = [
        replace(failed(output="[[ATTACHMENT|own.png]]\n"), artifacts=files),
        replace(failed(output="printed"), artifacts=files[:1]),
        failed(output="printed"),
    ]
    # When
    root = ET.fromstring(render(report(*failures), artifacts=FOLDER))
    # Then: Jenkins wants each on a line of its own, and GitLab links the first
    outputs = [element.text for element in root.iter("system-out")]
    assert outputs == [
        "[[ATTACHMENT|own.png]]\n"
        "[[ATTACHMENT|out/artifacts/00000-app.T.test_a/output.txt]]\n"
        "[[ATTACHMENT|out/artifacts/00000-app.T.test_a/page.png]]\n",
        "printed\n[[ATTACHMENT|out/artifacts/00000-app.T.test_a/output.txt]]\n",
        "printed",
    ]


def test_files_of_a_test_are_properties_relative_to_the_report() -> None:
    # Given
    files = (Artifact("output.txt", 9, "0" * 40), Artifact("page.png", 9, "1" * 40))
    # When
    root = ET.fromstring(render(report(replace(failed(), artifacts=files)), artifacts=FOLDER))
    # Then
    found = root.findall(".//testcase/properties/property[@name='dct.artifact']")
    assert [element.get("value") for element in found] == [
        "artifacts/00000-app.T.test_a/output.txt",
        "artifacts/00000-app.T.test_a/page.png",
    ]


def test_files_that_nothing_is_kept_of_are_not_named() -> None:
    # Given
    one = replace(failed(), artifacts=(Artifact("output.txt", 9, "0" * 40),))
    # Then
    assert b"output.txt" not in render(report(one))


def test_jenkins_shows_the_trace_of_what_went_wrong() -> None:
    # Given
    lost = verdict("test_b", Outcome.NOT_RUN, reason="worker lost")

    # When
    shown = list(jenkins(rendered(failed("test_a"), lost)))

    # Then
    assert shown == [
        ("app.T", "test_a", "1 != 2\n\nTraceback ..."),
        ("app.T", "test_b", "worker lost"),
    ]


def test_circleci_finds_the_file_of_each_red_case_fixtures_too() -> None:
    # Given
    set_up = FixtureRef.parse("setUpClass (app.T)")
    fixture = FixtureVerdict(set_up, Outcome.ERROR, covers=(1,))
    covered = verdict("test_b", Outcome.NOT_RUN, covered_by=set_up)

    # When
    files = circleci(rendered(failed("test_a"), covered, fixtures=(fixture,)))

    # Then
    assert files == ["app/tests.py", "app/tests.py"]
