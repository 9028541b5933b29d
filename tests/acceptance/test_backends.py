"""A test framework that knows no Django goes the whole way.

Collected, planned, run on slots, reported, run again.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support import plain_backend
from tests.support.fleet import Fleet

#: Modules of checks; `broken` has a set-up that fails, `littered` a tear-down that does.
MODULES = {
    "arithmetic.py": (
        """
        import sys

        def check_sum():
            assert 1 + 1 == 2

        def check_product():
            print("about to multiply", file=sys.stderr)
            assert 2 * 2 == 5, "two by two"

        def check_quotient():
            1 / 0
    """
    ),
    "broken.py": (
        """
        def set_up():
            raise RuntimeError("no such thing")

        def check_never():
            raise SystemExit("this must not run")

        def check_never_either():
            raise SystemExit("this must not run")
    """
    ),
    "littered.py": (
        """
        opened = []

        def set_up():
            opened.append(1)

        def tear_down():
            raise OSError("cannot be closed")

        def check_opened():
            assert opened == [1]
    """
    ),
}
NAMES = [name.removesuffix(".py") for name in MODULES]
BACKEND = ("--backend", "plain_backend:BACKEND")


@pytest.fixture
def project(place: Path) -> Path:
    """A folder with the framework and its checks, and no Django."""
    place.mkdir()
    source = Path(plain_backend.__file__).read_text()
    (place / "plain_backend.py").write_text(source)
    for name, text in MODULES.items():
        lines = text.strip("\n").splitlines()
        (place / name).write_text("\n".join(line[8:] for line in lines) + "\n")
    return place


def sequential(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "plain_backend.py", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_a_framework_without_django_ends_as_its_own_command(
    wide_fleet: Fleet, project: Path
) -> None:
    # Given
    expected = sequential(project, *NAMES)
    outcomes = dict(line.split() for line in expected.stdout.splitlines())
    assert sorted(outcomes.values()) == [
        "error",
        "failed",
        "not_run",
        "not_run",
        "passed",
        "passed",
    ]
    # When it runs on two slots
    finished = wide_fleet.run(
        project, *BACKEND, "--junit-xml", "junit.xml", "--chunk-seconds", "0.1", *NAMES
    )
    # Then the verdicts are those of the sequential run, fixtures are told apart, and nothing is
    # left
    assert finished.outcomes() == outcomes, finished
    assert finished.code == expected.returncode == 1, finished
    fixtures = {(each["id"], each["outcome"]) for each in finished.json["fixtures"]}
    assert fixtures == {("setUpModule (broken)", "error"), ("tearDownModule (littered)", "error")}
    wide_fleet.assert_tidy()
    # Then the document has a case for each check, and for each fixture that failed
    tags = ("failure", "error", "skipped")
    cases = {
        (case.get("classname"), case.get("name")): next(
            (part for part in case if part.tag in tags), None
        )
        for case in ET.parse(project / "junit.xml").iter("testcase")
    }
    assert cases["arithmetic", "check_sum"] is None
    problem = cases["arithmetic", "check_product"]
    assert problem is not None
    assert (problem.tag, problem.get("type"), problem.get("message")) == (
        "failure",
        "AssertionError",
        "two by two",
    )
    assert "about to multiply" in (project / "junit.xml").read_text()
    assert {key: case.tag for key, case in cases.items() if case is not None} == {
        ("arithmetic", "check_product"): "failure",
        ("arithmetic", "check_quotient"): "error",
        ("broken", "check_never"): "skipped",
        ("broken", "check_never_either"): "skipped",
        ("broken", "setUpModule"): "error",
        ("littered", "tearDownModule"): "error",
    }


def test_the_command_that_is_shown_for_a_failure_runs_it_again(fleet: Fleet, project: Path) -> None:
    # When
    finished = fleet.run(project, *BACKEND, "--local", "1", "arithmetic.check_product", "littered")
    # Then
    (line,) = [line for line in finished.out.splitlines() if "re-run: " in line]
    _, *words = shlex.split(line.partition("re-run: ")[2])
    assert words == ["plain_backend.py", "arithmetic.check_product"]
    assert sequential(project, *words[1:]).stdout == "arithmetic.check_product failed\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--backend", "nose"],
            (
                "--backend: 'nose' is not valid; give django, pytest, or module:attribute of "
                "a backend of your own"
            ),
        ),
        (
            ["--backend", "nowhere:BACKEND"],
            "the backend nowhere:BACKEND cannot be imported: ModuleNotFoundError: No module",
        ),
        (
            ["--backend", "arithmetic:check_sum"],
            "the backend arithmetic:check_sum has no method load",
        ),
        ([*BACKEND, "missing"], "ModuleNotFoundError: No module named 'missing'"),
        (
            [*BACKEND, "--tag", "slow", "arithmetic"],
            "--tag (DCT_TAG, or tag in [tool.dct]) is for Django's tests",
        ),
    ],
)
def test_a_backend_that_cannot_be_used_is_one_clear_error(
    busy_fleet: Fleet, project: Path, flags: list[str], message: str
) -> None:
    # When
    finished = busy_fleet.run(project, *flags)
    # Then
    assert finished.code == 4, finished
    assert message in finished.err.partition("\n")[0]
    assert finished.err.startswith("dct: error: ")
