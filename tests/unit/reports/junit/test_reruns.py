"""Tests that ran again (--reruns) in the JUnit document: visible whether they passed in the end or
not, and never red by that.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from dct_celery.core.model import Entry, Failure, Outcome, Phase, RunReport, Verdict
from dct_celery.reports.junit import document
from dct_celery.reports.junit.document import Family, render

ENTRY = Entry(0, "app.T.test_a", "app.T", "app", Phase.ISOLATED)
FAILURE = Failure("failure", "AssertionError", "1 != 2", "Traceback ...")
FAILED = Verdict(ENTRY, Outcome.FAILED, worker="w", slot=0, failures=(FAILURE,), output="printed")
ERRED = Verdict(
    ENTRY,
    Outcome.ERROR,
    worker="w",
    slot=0,
    failures=(Failure("error", "OSError", "gone", "Trace"),),
)


def rendered(
    outcome: Outcome, *earlier: Verdict, family: Family = "dct", size: int = 1
) -> ET.Element:
    failures = (FAILURE,) if outcome is Outcome.FAILED else ()
    verdict = Verdict(ENTRY, outcome, worker="w", slot=1, failures=failures, earlier=earlier)
    return ET.fromstring(render(RunReport("r1", (verdict,) * size, (), 0), family=family))


@pytest.mark.parametrize("family", ["dct", "xunit2"])
def test_a_flaky_test_is_green_and_shows_each_failure(family: Family) -> None:
    # When
    root = rendered(Outcome.PASSED, FAILED, ERRED, family=family)

    # Then
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    case = next(root.iter("testcase"))
    first, second = (child for child in case if child.tag != "properties")
    assert (first.tag, first.attrib) == (
        "flakyFailure",
        {"message": "1 != 2", "type": "AssertionError"},
    )
    assert (first.findtext("stackTrace"), first.findtext("system-out")) == (
        "Traceback ...",
        "printed",
    )
    assert (second.tag, second.attrib) == ("flakyError", {"message": "gone", "type": "OSError"})


@pytest.mark.parametrize("family", ["dct", "xunit2"])
def test_a_test_that_failed_for_good_shows_the_attempts_before_the_last(family: Family) -> None:
    # When
    root = rendered(Outcome.FAILED, ERRED, FAILED, family=family)

    # Then
    assert (root.get("failures"), root.get("errors")) == ("1", "0")
    tags = [child.tag for child in next(root.iter("testcase"))]
    assert [tag for tag in tags if tag != "properties"] == ["failure", "rerunError", "rerunFailure"]


def test_reruns_are_counted_apart_from_attempts() -> None:
    # When
    case = next(rendered(Outcome.PASSED, FAILED, ERRED).iter("testcase"))

    # Then
    properties = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert (properties["dct.attempt"], properties["dct.reruns"]) == ("1", "2")


def test_the_output_of_reruns_counts_for_the_size_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    long = Verdict(ENTRY, Outcome.FAILED, failures=(Failure("failure", "E", "m", "x" * 10_000),))
    monkeypatch.setattr(document, "FILE_LIMIT", 50_000)

    # When
    trace = rendered(Outcome.PASSED, long, long, size=5).findtext(".//stackTrace") or ""

    # Then
    assert len(trace) < 5_000
