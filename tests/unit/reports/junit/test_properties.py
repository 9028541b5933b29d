"""Any text in any field: the JUnit document stays sound, in both families."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from dct_celery.core.model import Entry, Outcome, Phase, RunReport, Verdict
from dct_celery.reports.junit import document
from dct_celery.reports.junit.document import ArtifactFolder, render
from tests.support.verdicts import PASSES, REPORTS, SECONDS, TEXT

SCHEMA = etree.XMLSchema(etree.parse(str(Path(__file__).parents[3] / "data" / "junit-10.xsd")))
RESULTS = {"failure", "error", "skipped"}
FOLDERS = st.none() | st.builds(ArtifactFolder, TEXT, TEXT)


@given(REPORTS, st.sampled_from(["dct", "xunit2"]), FOLDERS)
@settings(database=None, deadline=None, max_examples=200)
def test_whatever_a_test_says_the_document_is_sound(
    run: RunReport, family: Literal["dct", "xunit2"], artifacts: ArtifactFolder | None
) -> None:
    # When
    data = render(run, family=family, artifacts=artifacts)

    # Then both parsers take it
    root = ET.fromstring(data)
    tree = etree.fromstring(data)
    # and xunit2 is what junit-10.xsd allows
    assert family == "dct" or SCHEMA.validate(tree), SCHEMA.error_log
    # and no case is missing, doubled or without a name
    cases = list(root.iter("testcase"))
    assert len(cases) >= len(run.verdicts)
    assert len({(c.get("classname"), c.get("name")) for c in cases}) == len(cases)
    assert all(element.get("name") for element in (*root.iter("testsuite"), *cases))
    assert len({suite.get("name") for suite in root}) == len(root)
    # and each has at most one result, which starts with its message of one line
    for case in cases:
        results = [child for child in case if child.tag in RESULTS]
        assert len(results) <= 1
        assert all((result.text or "").startswith(result.attrib["message"]) for result in results)
        assert all(len(result.attrib["message"].splitlines()) == 1 for result in results)
    # and the counts are those of the elements
    for element in (root, *root):
        counts = {
            "tests": "testcase",
            "failures": "failure",
            "errors": "error",
            "skipped": "skipped",
        }
        for attribute, tag in counts.items():
            assert element.get(attribute, str(len(list(element.iter(tag))))) == str(
                len(list(element.iter(tag)))
            )
        assert re.fullmatch(r"\d+\.\d{3}", element.attrib["time"])
    # and a red run is no green document
    red = [child for case in cases for child in case if child.tag in RESULTS - {"skipped"}]
    assert red or run.exit_code in (0, 5)


@given(
    REPORTS,
    st.sampled_from(["dct", "xunit2"]),
    st.sampled_from([document.FILE_LIMIT, *range(1_000, 10_000, 1_000)]),
    FOLDERS,
)
@settings(database=None, deadline=None, max_examples=200)
def test_a_case_that_is_put_together_from_strings_is_what_elementtree_writes(
    run: RunReport,
    family: Literal["dct", "xunit2"],
    file_limit: int,
    artifacts: ArtifactFolder | None,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "FILE_LIMIT", file_limit)
        # Given what all of it looks like when all cases are written by ElementTree
        with pytest.MonkeyPatch.context() as slow:
            slow.setattr(document._Writer, "at_once", lambda *case: "")
            elements = render(run, family=family, artifacts=artifacts)

        # When / Then
        assert render(run, family=family, artifacts=artifacts) == elements


@given(st.lists(PASSES, max_size=4).map(tuple), st.sampled_from(["dct", "xunit2"]), TEXT, SECONDS)
@settings(database=None, deadline=None, max_examples=200)
def test_a_document_without_failures_is_what_elementtree_makes_of_it(
    passes: tuple[Verdict, ...], family: Literal["dct", "xunit2"], host: str, seconds: float
) -> None:
    # When
    data = render(
        RunReport(host, passes, (), 0, {"wall": seconds}, started_at=seconds, hosts={"a": host}),
        family=family,
    )

    # Then
    assert ET.tostring(ET.fromstring(data), encoding="utf-8", xml_declaration=True) == data


def test_the_schema_check_can_fail() -> None:
    # Given family dct, with its file and properties of a case
    entry = Entry(0, "app.T.test_a", "app.T", "app", Phase.ISOLATED, "app/tests.py", 7)
    tree = etree.fromstring(
        render(RunReport("r1", (Verdict(entry, Outcome.PASSED, worker="w"),), (), 0))
    )

    # When / Then
    assert not SCHEMA.validate(tree)
