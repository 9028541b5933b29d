"""The JUnit XML document: elements, attributes, their order and limits, in a form that every known
reader takes.

Which case and result a verdict becomes is decided in `cases`; here it is named apart,
cleaned, cut and written.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from dct_celery.core.model import RunReport
from dct_celery.core.text import cut, strip_ansi, xml_safe
from dct_celery.reports.junit.cases import Case, Rerun, Result, cases_of

Family = Literal["dct", "xunit2"]

#: Characters of a name, a message or a property.
LINE_LIMIT = 1024
#: Characters of (a failure's text, an output); the first pair that keeps the file below FILE_LIMIT
#: is used.
TEXT_LIMITS = ((262_144, 65_536), (65_536, 16_384), (16_384, 4_096), (4_096, 1_024), (1_024, 256))
#: Bytes that GitLab takes of one file.
FILE_LIMIT = 30_000_000
#: Bytes of a case apart from its texts.
_CASE_SIZE = 400
_YEAR_10000 = 253_402_300_800
#: Characters that are spelled out in attributes.
_SPELLED_OUT = re.compile('[&<>"\r\n\t]')
_ATTRIBUTE = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        '"': "&quot;",
        "\r": "&#13;",
        "\n": "&#10;",
        "\t": "&#09;",
    }
)


@dataclass(frozen=True, slots=True)
class ArtifactFolder:
    """Where the folder of --artifacts is, as two kinds of readers look for it."""

    #: Seen from the folder that the job runs in, or an absolute path: Jenkins and GitLab.
    from_job: str
    #: Seen from the folder of the JUnit file: whoever has nothing but the files.
    from_report: str


@dataclass(slots=True)
class _Suite:
    """The cases of one class under names that are unique in it, and what its tag says of them."""

    cases: list[tuple[str, Case]] = field(default_factory=list)
    #: Cases by the tag of their result.
    counts: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    _names: set[str] = field(default_factory=set)
    _repeats: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, case: Case, host: str | None) -> None:
        unique = name
        while unique in self._names:
            self._repeats[name] += 1
            unique = f"{name} [{self._repeats[name] + 1}]"
        self._names.add(unique)
        self.cases.append((unique, case))
        self.seconds += _sane(case.seconds)
        if case.result is not None:
            self.counts[case.result.tag] += 1
        if host is not None:
            self.hosts[host] += 1


def render(
    report: RunReport, *, family: Family = "dct", artifacts: ArtifactFolder | None = None
) -> bytes:
    """The report as a UTF-8 JUnit document: `dct` has everything, `xunit2` only what junit-10.xsd
    allows. Files of tests are named if it is given where they are.

    One suite per class, one case per verdict and per failed fixture, each (classname, name) once.
    Whatever is in the texts, the document is well-formed.
    """
    cases = cases_of(report)
    suites: dict[str, _Suite] = {}
    by_class: dict[str, _Suite] = {}
    for case in cases:
        if (suite := by_class.get(case.cls)) is None:
            # Two classes may have one name once that is cleaned.
            suite = by_class[case.cls] = suites.setdefault(_name(case.cls), _Suite())
        host = report.hosts.get(case.worker, case.worker) if case.worker else None
        suite.add(_name(case.name), case, host)
    properties = _serialized(_properties(_facts(report)))
    writer = _Writer(family, artifacts, *_text_limits(cases))
    parts = ["<?xml version='1.0' encoding='utf-8'?>\n", _opening(_root(report, suites, family))]
    for name, suite in suites.items():
        parts += [_opening(_suite_element(name, suite, report)), properties]
        parts += [writer.case(name, *case) for case in suite.cases]
        parts.append("</testsuite>\n")
    parts.append("</testsuites>")
    return "".join(parts).encode()


class _Writer:
    """Writes the cases of one family under one pair of limits. Equal lists of properties are made
    once.

    A plain pass, which most cases are, is put together from strings; ElementTree takes several
    times as long for the same bytes.
    """

    def __init__(
        self, family: Family, artifacts: ArtifactFolder | None, traces: int, outputs: int
    ) -> None:
        self._full = family == "dct"
        self._artifacts = artifacts
        self._traces = traces
        self._outputs = outputs
        self._properties: dict[tuple[object, ...], tuple[ET.Element, str]] = {}

    def case(self, cls: str, name: str, case: Case) -> str:
        if _is_plain(case):
            return self._plain(cls, name, case)
        return _serialized(self._element(cls, name, case))

    def _plain(self, cls: str, name: str, case: Case) -> str:
        head = (
            f'<testcase classname="{_quoted(cls)}" name="{_quoted(name)}"'
            f' time="{_time(case.seconds)}"'
        )
        if not self._full:
            return f"{head} />\n"
        if case.file:
            head += f' file="{_quoted(_name(case.file))}"'
        if case.line and case.line > 0:
            head += f' line="{case.line}"'
        element, text = self._case_properties(case, [])
        return f"{head}>{text}</testcase>\n" if len(element) else f"{head} />\n"

    def _element(self, cls: str, name: str, case: Case) -> ET.Element:
        attributes = {"classname": cls, "name": name, "time": _time(case.seconds)}
        element = ET.Element("testcase", attributes)
        element.tail = "\n"
        shortened: list[str] = []
        if case.result:
            self._result(element, case.result, shortened)
        for rerun in case.reruns:
            self._rerun(element, rerun, shortened)
        self._output(element, "system-out", case.output, shortened)
        self._attach(element, case)
        self._output(element, "system-err", case.sql, shortened)
        if self._full:
            self._extras(element, case, shortened)
        return element

    def _result(self, element: ET.Element, result: Result, shortened: list[str]) -> None:
        child = ET.SubElement(element, result.tag)
        if result.type:
            child.set("type", _name(result.type))
        # One line: parsers change a line end in the text but not in the attribute, and the two must
        # agree.
        message = _name(" ".join(result.message.splitlines()))
        child.set("message", message)
        body = self._text(result.tag, result.body, self._traces, shortened)
        # The message comes again because GitLab shows the text alone.
        child.text = body if body.startswith(message) else f"{message}\n\n{body}".rstrip()

    def _rerun(self, element: ET.Element, rerun: Rerun, shortened: list[str]) -> None:
        """As Surefire writes it; both families have it, as junit-10.xsd knows these elements."""
        result = rerun.result
        message = _name(" ".join(result.message.splitlines()))
        child = ET.SubElement(element, result.tag, {"message": message, "type": _name(result.type)})
        ET.SubElement(child, "stackTrace").text = (
            self._text(result.tag, result.body, self._traces, shortened) or message
        )
        self._output(child, "system-out", rerun.output, shortened)

    def _output(self, element: ET.Element, tag: str, text: str, shortened: list[str]) -> None:
        if text:
            ET.SubElement(element, tag).text = self._text(tag, text, self._outputs, shortened)

    def _attach(self, element: ET.Element, case: Case) -> None:
        """Ends system-out with a line per file, as Jenkins and GitLab want it."""
        if self._artifacts is None or not case.artifacts:
            return
        output = element.find("system-out")
        if output is None:
            output = ET.SubElement(element, "system-out")
        text = output.text or ""
        if text and not text.endswith("\n"):
            text += "\n"
        paths = [f"{self._artifacts.from_job}/{path}" for path in case.artifacts]
        output.text = text + "".join(f"[[ATTACHMENT|{xml_safe(path)}]]\n" for path in paths)

    def _text(self, tag: str, text: str, limit: int, shortened: list[str]) -> str:
        clean = xml_safe(strip_ansi(text))
        if len(clean) > limit:
            shortened.append(tag)
        return cut(clean, limit)

    def _extras(self, element: ET.Element, case: Case, shortened: list[str]) -> None:
        """What only family `dct` has: file, line, properties."""
        if case.file:
            element.set("file", _name(case.file))
        if case.line and case.line > 0:
            element.set("line", str(case.line))
        properties, _ = self._case_properties(case, shortened)
        if len(properties):
            element.insert(0, properties)

    def _case_properties(self, case: Case, shortened: list[str]) -> tuple[ET.Element, str]:
        """As an element, and as it is written."""
        paths = case.artifacts if self._artifacts else ()
        key = (
            case.worker,
            case.slot,
            case.attempt,
            len(case.reruns),
            case.tags,
            case.order,
            paths,
            *shortened,
        )
        if key not in self._properties:
            facts = list(_case_facts(case, shortened))
            if self._artifacts:
                folder = self._artifacts.from_report
                facts += [("dct.artifact", f"{folder}/{path}") for path in paths]
            element = _properties(facts)
            self._properties[key] = element, _serialized(element)
        return self._properties[key]


def _is_plain(case: Case) -> bool:
    return not (case.result or case.reruns or case.output or case.sql or case.artifacts)


def _opening(element: ET.Element) -> str:
    """The tag that begins an element whose children are written one by one."""
    attributes = "".join(f' {name}="{_quoted(value)}"' for name, value in element.attrib.items())
    return f"<{element.tag}{attributes}>\n"


def _serialized(element: ET.Element) -> str:
    text: str = ET.tostring(element, encoding="unicode")
    return text


def _quoted(text: str) -> str:
    """The value of an attribute as ElementTree writes it."""
    if _SPELLED_OUT.search(text) is None:
        return text
    return text.translate(_ATTRIBUTE)


def _case_facts(case: Case, shortened: list[str]) -> Iterable[tuple[str, object]]:
    facts = (("dct.worker", case.worker), ("dct.slot", case.slot), ("dct.attempt", case.attempt))
    yield from ((name, value) for name, value in facts if value is not None)
    if case.reruns:
        yield "dct.reruns", len(case.reruns)
    yield from (("dct.tag", tag) for tag in case.tags)
    if case.order:
        yield "dct.order", case.order
    if shortened:
        yield "dct.cut", ",".join(shortened)


def _facts(report: RunReport) -> Iterable[tuple[str, object]]:
    yield from ({"dct.run_id": report.run} | report.properties).items()
    if not report.complete:
        yield "dct.complete", "false"
    if report.note:
        yield "dct.note", report.note


def _properties(facts: Iterable[tuple[str, object]]) -> ET.Element:
    element = ET.Element("properties")
    for name, value in facts:
        ET.SubElement(
            element, "property", {"name": _name(name), "value": _clean(str(value), LINE_LIMIT)}
        )
    element.tail = "\n"
    return element


def _root(report: RunReport, suites: dict[str, _Suite], family: Family) -> ET.Element:
    def total(tag: str) -> str:
        return str(sum(suite.counts[tag] for suite in suites.values()))

    wall = report.seconds.get("wall") or sum(suite.seconds for suite in suites.values())
    tests = str(sum(len(suite.cases) for suite in suites.values()))
    root = ET.Element("testsuites", {"name": "dct", "tests": tests})
    root.attrib |= {"failures": total("failure"), "errors": total("error"), "time": _time(wall)}
    if family == "dct":
        root.attrib |= {"skipped": total("skipped"), **_timestamp(report)}
    return root


def _suite_element(name: str, suite: _Suite, report: RunReport) -> ET.Element:
    element = ET.Element("testsuite", {"name": name, "tests": str(len(suite.cases))})
    tags = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    element.attrib |= {attribute: str(suite.counts[tag]) for attribute, tag in tags.items()}
    element.attrib |= {"time": _time(suite.seconds), **_timestamp(report)}
    if suite.hosts:
        element.set("hostname", _name(suite.hosts.most_common(1)[0][0]))
    if file := next((case.file for _, case in suite.cases if case.file), None):
        element.set("file", _name(file))
    return element


def _text_limits(cases: list[Case]) -> tuple[int, int]:
    """The widest limits under which the file stays below FILE_LIMIT; the narrowest if none are
    enough.
    """
    sizes = [pair for case in cases for pair in case.sizes]
    paths = sum(len(path) for case in cases for path in case.artifacts)
    room = FILE_LIMIT - _CASE_SIZE * len(cases) - 4 * paths
    for limits in TEXT_LIMITS:
        if (
            sum(
                min(size, limit) for pair in sizes for size, limit in zip(pair, limits, strict=True)
            )
            < room
        ):
            return limits
    return TEXT_LIMITS[-1]


def _timestamp(report: RunReport) -> dict[str, str]:
    """The run's start in UTC without an offset, which every reader takes; nothing where the start
    is unknown.
    """
    if not 0 < report.started_at < _YEAR_10000:
        return {}
    return {
        "timestamp": datetime.fromtimestamp(report.started_at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    }


def _time(seconds: float) -> str:
    """Three decimals: junit-10.xsd takes neither four nor an exponent."""
    return f"{_sane(seconds):.3f}"


def _sane(seconds: float) -> float:
    return seconds if 0 <= seconds < 1e9 else 0.0


def _name(text: str) -> str:
    return _clean(text, LINE_LIMIT).strip() or "(no name)"


def _clean(text: str, limit: int) -> str:
    return cut(xml_safe(strip_ansi(text)), limit)
