"""The JUnit XML document: elements, attributes, their order and limits, in a form that every known
reader takes.

Which case and result a verdict becomes is decided in `cases`; here it is named apart,
cleaned, cut and written.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from dct_celery.core.metrics import named
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
#: And of each thing that was measured of it.
_MEASURED_SIZE = 50
#: End of a case's properties.
_END = "</properties>\n"
_YEAR_10000 = 253_402_300_800
#: Results, and files, whose text is remembered while a document is written.
_REMEMBERED = 256
#: A name that needs no cleaning.
_ORDINARY = re.compile(rf"[\w.,:()\[\]/+-]{{1,{LINE_LIMIT}}}", re.ASCII).fullmatch
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
    """The cases of one class, and what its tag says of them."""

    #: As it is in an attribute.
    name: str
    #: In order, by names that are unique: what is written, or what can only be written once the
    #: limits are known.
    cases: dict[str, str | Case] = field(default_factory=dict)
    #: Number of cases by the tag of their result, and by the host that ran them. These are no
    #: Counters, which take longer to make than all the rest of a small suite.
    counts: dict[str, int] = field(default_factory=dict)
    hosts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    file: str | None = None
    _repeats: dict[str, int] = field(default_factory=dict)

    def unique(self, name: str) -> str:
        unique = name
        while unique in self.cases:
            self._repeats[name] = self._repeats.get(name, 1) + 1
            unique = f"{name} [{self._repeats[name]}]"
        return unique

    def count(self, case: Case, host: str | None) -> None:
        self.seconds += _sane(case.seconds)
        self.file = self.file or case.file
        if case.result is not None:
            self.counts[case.result.tag] = self.counts.get(case.result.tag, 0) + 1
        if host is not None:
            self.hosts[host] = self.hosts.get(host, 0) + 1


def render(
    report: RunReport, *, family: Family = "dct", artifacts: ArtifactFolder | None = None
) -> bytes:
    """The report as a UTF-8 JUnit document: `dct` has everything, `xunit2` only what junit-10.xsd
    allows. Files of tests are named if it is given where they are.

    One suite per class, one case per verdict and per failed fixture, each (classname, name) once.
    Whatever is in the texts, the document is well-formed.
    """
    suites: dict[str, _Suite] = {}
    by_class: dict[str, _Suite] = {}
    metrics = _has_room_for_metrics(report)
    writer = _Writer(family, artifacts, metrics=metrics)
    sizes = _Sizes()
    for case in cases_of(report):
        if (suite := by_class.get(case.cls)) is None:
            # Two classes may have one name once that is cleaned.
            name = _name(case.cls)
            suite = by_class[case.cls] = suites.setdefault(name, _Suite(_quoted(name)))
        name = suite.unique(_name(case.name))
        written = writer.at_once(suite.name, name, case)
        suite.cases[name] = written or case
        suite.count(case, report.hosts.get(case.worker, case.worker) if case.worker else None)
        sizes.add(case, short=bool(written))
    writer.limits = sizes.limits()
    timestamp = _timestamp(report)
    cut = () if metrics else (("dct.cut", "metrics"),)
    properties = _serialized(_properties([*_facts(report), *cut]))
    parts = [
        "<?xml version='1.0' encoding='utf-8'?>\n",
        _root_tag(report, suites.values(), timestamp if family == "dct" else None),
    ]
    for cls, suite in suites.items():
        parts += [_suite_tag(suite, timestamp), properties]
        parts += [
            case if isinstance(case, str) else writer.case(cls, name, case)
            for name, case in suite.cases.items()
        ]
        parts.append("</testsuite>\n")
    parts.append("</testsuites>")
    return "".join(parts).encode()


def _has_room_for_metrics(report: RunReport) -> bool:
    """They are the first to be left out of a file that becomes too large."""
    numbers = sum(
        verdict.measured.count(",") + 1 for verdict in report.verdicts if verdict.measured
    )
    size = _CASE_SIZE * len(report.verdicts) + _MEASURED_SIZE * numbers
    return not numbers or size < FILE_LIMIT


class _Sizes:
    """How long the texts of all cases are, and so how much of each there is room for."""

    def __init__(self) -> None:
        self._cases = 0
        #: Bytes of what is never cut: texts within all limits, paths of files.
        self._short = 0
        self._pairs: list[tuple[int, int]] = []

    def add(self, case: Case, *, short: bool) -> None:
        self._cases += 1
        if not short:
            self._pairs += case.sizes
        elif case.result:
            self._short += len(case.result.body)
        if case.artifacts:
            self._short += 4 * sum(map(len, case.artifacts))

    def limits(self) -> tuple[int, int]:
        """The widest limits under which the file stays below FILE_LIMIT; the narrowest if none are
        enough.
        """
        room = FILE_LIMIT - _CASE_SIZE * self._cases - self._short
        for limits in TEXT_LIMITS:
            kept = (
                min(size, limit)
                for pair in self._pairs
                for size, limit in zip(pair, limits, strict=True)
            )
            if sum(kept) < room:
                return limits
        return TEXT_LIMITS[-1]


class _Writer:
    """Writes the cases of one family.

    Most cases are put together from strings. What comes again and again (the properties, the
    reason of a skip) is made once; ElementTree, which writes all others, takes several times as
    long for the same bytes.
    """

    def __init__(self, family: Family, artifacts: ArtifactFolder | None, *, metrics: bool) -> None:
        self._full = family == "dct"
        self._metrics = metrics
        self._artifacts = artifacts
        #: Characters of (a failure's text, an output).
        self.limits = TEXT_LIMITS[-1]
        self._properties: dict[tuple[object, ...], str] = {}
        self._result_text = lru_cache(_REMEMBERED)(self._write_result)
        self._file = lru_cache(_REMEMBERED)(_file_attribute)

    def at_once(self, cls: str, name: str, case: Case) -> str:
        """The case if it is the same under all limits, else empty. `cls` is quoted already."""
        if case.reruns or case.output or case.sql or case.artifacts:
            return ""
        result = ""
        if case.result:
            if len(case.result.body) > TEXT_LIMITS[-1][0]:  # it may be cut
                return ""
            result, shortened = self._result_text(case.result)
            if shortened:
                return ""
        text = f'<testcase classname="{cls}" name="{_quoted(name)}" time="{_time(case.seconds)}"'
        properties = ""
        if self._full:
            if case.file:
                text += self._file(case.file)
            if case.line and case.line > 0:
                text += f' line="{case.line}"'
            properties = self._properties_text(case)
        if properties or result:
            return f"{text}>{properties}{result}</testcase>\n"
        return f"{text} />\n"

    def _write_result(self, result: Result) -> tuple[str, bool]:
        """The element of the result, and whether its text was shortened."""
        case, shortened = ET.Element("testcase"), list[str]()
        self._result(case, result, shortened)
        return _serialized(case[0]), bool(shortened)

    def _properties_text(self, case: Case) -> str:
        key = (case.worker, case.slot, case.attempt, case.tags, case.order)
        if (text := self._properties.get(key)) is None:
            element = _properties(_case_facts(case, []))
            text = self._properties[key] = _serialized(element) if len(element) else ""
        if not case.measured or not self._metrics:
            return text
        own = "".join(
            [
                f'<property name="dct.{name}" value="{value}" />'
                for name, value in named(case.measured)
            ]
        )
        head = text.removesuffix(_END) if text else "<properties>"
        return f"{head}{own}{_END}"

    def case(self, cls: str, name: str, case: Case) -> str:
        return _serialized(self._element(cls, name, case))

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
        body = self._text(result.tag, result.body, self.limits[0], shortened)
        # The message comes again because GitLab shows the text alone.
        child.text = body if body.startswith(message) else f"{message}\n\n{body}".rstrip()

    def _rerun(self, element: ET.Element, rerun: Rerun, shortened: list[str]) -> None:
        """As Surefire writes it; both families have it, as junit-10.xsd knows these elements."""
        result = rerun.result
        message = _name(" ".join(result.message.splitlines()))
        child = ET.SubElement(element, result.tag, {"message": message, "type": _name(result.type)})
        ET.SubElement(child, "stackTrace").text = (
            self._text(result.tag, result.body, self.limits[0], shortened) or message
        )
        self._output(child, "system-out", rerun.output, shortened)

    def _output(self, element: ET.Element, tag: str, text: str, shortened: list[str]) -> None:
        if text:
            ET.SubElement(element, tag).text = self._text(tag, text, self.limits[1], shortened)

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
        facts = list(_case_facts(case, shortened))
        if self._metrics:
            facts += [(f"dct.{name}", value) for name, value in named(case.measured)]
        if self._artifacts:
            folder = self._artifacts.from_report
            facts += [("dct.artifact", f"{folder}/{path}") for path in case.artifacts]
        if facts:
            element.insert(0, _properties(facts))


def _serialized(element: ET.Element) -> str:
    text: str = ET.tostring(element, encoding="unicode")
    return text


def _quoted(text: str) -> str:
    """The value of an attribute as ElementTree writes it."""
    if _SPELLED_OUT.search(text) is None:
        return text
    return text.translate(_ATTRIBUTE)


def _case_facts(case: Case, shortened: Iterable[str]) -> Iterable[tuple[str, object]]:
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


def _root_tag(report: RunReport, suites: Collection[_Suite], timestamp: str | None) -> str:
    """`timestamp`: None leaves out what xunit2 does not have."""

    def total(tag: str) -> int:
        return sum(suite.counts.get(tag, 0) for suite in suites)

    wall = report.seconds.get("wall") or sum(suite.seconds for suite in suites)
    text = (
        f'<testsuites name="dct" tests="{sum(len(suite.cases) for suite in suites)}"'
        f' failures="{total("failure")}" errors="{total("error")}" time="{_time(wall)}"'
    )
    if timestamp is not None:
        text += f' skipped="{total("skipped")}"{timestamp}'
    return f"{text}>\n"


def _suite_tag(suite: _Suite, timestamp: str) -> str:
    count = suite.counts.get
    text = (
        f'<testsuite name="{suite.name}" tests="{len(suite.cases)}"'
        f' failures="{count("failure", 0)}" errors="{count("error", 0)}"'
        f' skipped="{count("skipped", 0)}" time="{_time(suite.seconds)}"{timestamp}'
    )
    if suite.hosts:
        host = max(suite.hosts, key=suite.hosts.__getitem__)
        text += f' hostname="{_quoted(_name(host))}"'
    if suite.file:
        text += _file_attribute(suite.file)
    return f"{text}>\n"


def _timestamp(report: RunReport) -> str:
    """An attribute with the run's start, in UTC without an offset, which every reader takes; empty
    where the start is unknown.
    """
    if not 0 < report.started_at < _YEAR_10000:
        return ""
    start = datetime.fromtimestamp(report.started_at, UTC)
    return f' timestamp="{start:%Y-%m-%dT%H:%M:%S}"'


def _time(seconds: float) -> str:
    """Three decimals: junit-10.xsd takes neither four nor an exponent."""
    return f"{_sane(seconds):.3f}"


def _sane(seconds: float) -> float:
    return seconds if 0 <= seconds < 1e9 else 0.0


def _file_attribute(file: str) -> str:
    return f' file="{_quoted(_name(file))}"'


def _name(text: str) -> str:
    if _ORDINARY(text):
        return text
    return _clean(text, LINE_LIMIT).strip() or "(no name)"


def _clean(text: str, limit: int) -> str:
    return cut(xml_safe(strip_ansi(text)), limit)
