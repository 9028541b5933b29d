"""Runs of a pytest project, sequential and distributed, in a form in which they can be compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.fleet import Fleet

#: What differs between two runs of the same tests on one machine.
_VARIES = (
    (r"0x[0-9a-f]+", "0x"),
    (r"\bin \d+\.\d+s( \(\d+:\d\d:\d\d\))?", "in"),
    (r"/[\w./-]*pytest-of-\w+/pytest-\d+/", "TMP/"),
    (r"localhost:\d+", "localhost"),
    (r"Results \(\d+\.\d+s\):", "Results:"),
    (r"\x1b\[[0-9;]*m", ""),
    # Where pytest shows a path relative to the folder depends on which of both is shorter.
    (r"(?<![\w./-])[\w./-]{0,300}/(site-packages|python3\.\d+)/", r"\1/"),
    (r"\b(test|dct)_\w{0,60}(gw\d+|[0-9a-f]{8,})\w{0,60}", "DATABASE"),
)
_COMMAND = (sys.executable, "-m", "pytest")
_SEED = {"PYTHONHASHSEED": "7"}


@dataclass
class PytestRun:
    """A run of pytest that has ended."""

    code: int
    out: str
    err: str
    #: (class, name) of a case -> what it holds: tag, message and text of each part. Durations and
    #: addresses are left out.
    cases: Counter[tuple[str, ...]] = field(default_factory=Counter)
    #: Attributes of the suite, without times and host.
    suite: dict[str, str] = field(default_factory=dict)

    @property
    def last_line(self) -> str:
        """`2 failed, 3 passed, 1 warning`"""
        lines = [line for line in self.out.splitlines() if line.strip()]
        return stable(lines[-1]).strip("= ") if lines else ""

    @property
    def warnings(self) -> Counter[str]:
        """Lines of the summary of warnings."""
        _, _, rest = self.out.partition(" warnings summary ")
        return Counter(stable(rest.partition("-- Docs: ")[0]).splitlines())

    @property
    def short_summary(self) -> Counter[str]:
        """Lines such as `FAILED test_a.py::test_x - assert 1 == 2`, without the reasons, which are
        cut to the terminal's width.
        """
        _, _, rest = self.out.partition(" short test summary info ")
        lines = stable(rest).splitlines()[1:-1]
        return Counter(line.partition(" - ")[0] for line in lines)

    def __str__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def differences(one: PytestRun, other: PytestRun) -> list[str]:
    """Of verdicts, reports, warnings, totals and exit codes; empty where there are none."""
    found = [
        f"{name}: {getattr(one, name)!r} != {getattr(other, name)!r}"
        for name in ("code", "last_line", "suite")
        if getattr(one, name) != getattr(other, name)
    ]
    for name in ("cases", "warnings", "short_summary"):
        left, right = getattr(one, name), getattr(other, name)
        found += [f"{name}: only in the first: {key}" for key in (left - right)]
        found += [f"{name}: only in the second: {key}" for key in (right - left)]
    return found


def sequential(project: Path, *words: str, **environment: str) -> PytestRun:
    """`python -m pytest`, without this package's plugin."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return _run(project, words, {**inherited, **_SEED, **environment})


def distributed(fleet: Fleet, project: Path, *words: str, **environment: str) -> PytestRun:
    """`python -m pytest --dct` on the workers of the fleet."""
    own = {"DCT_SETTLE": "0", "DCT_ENV": "TORTURE_*", **_SEED}
    return _run(project, ("--dct", *words), fleet.environment({**own, **environment}))


def _run(project: Path, words: tuple[str, ...], environment: Mapping[str, str]) -> PytestRun:
    report = project / "junit-of-pytest.xml"
    report.unlink(missing_ok=True)
    done = subprocess.run(
        [*_COMMAND, *words, f"--junitxml={report}"],
        cwd=project,
        env=dict(environment),
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
        timeout=240,
    )
    run = PytestRun(done.returncode, done.stdout, done.stderr)
    if report.exists():
        _read(run, report)
        report.unlink()
    return run


def _read(run: PytestRun, report: Path) -> None:
    root = ET.parse(report).getroot()
    suite = root if root.tag == "testsuite" else root[0]
    run.suite = {
        name: value
        for name, value in suite.attrib.items()
        if name not in ("time", "timestamp", "hostname")
    }
    run.suite["properties"] = repr(
        sorted((one.get("name"), one.get("value")) for one in suite.findall("properties/property"))
    )
    for case in suite.iter("testcase"):
        parts = [
            " ".join((part.tag, *map(str, sorted(part.attrib.items())), part.text or ""))
            for part in case.iter()
            if part is not case
        ]
        own = [f"{name}={value}" for name, value in sorted(case.attrib.items()) if name != "time"]
        run.cases[(*own, *map(stable, parts))] += 1


def stable(text: str) -> str:
    for pattern, instead in _VARIES:
        text = re.sub(pattern, instead, text)
    return text
