"""Tests that damage their process get the verdict they deserve, and cost no other its own.

The suite is tests/torture/sabotage.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from tests.acceptance.stream import Journalled, journalled
from tests.support.fleet import Finished, Fleet, Worker, until

PROJECT = Path(__file__).parents[1] / "torture" / "sabotage"
#: Seconds that a recorded duration may be off.
EXACT = 0.05
#: Bytes by which a process of the worker may grow over a test that prints 100 MB.
GROWTH = 100 << 20
#: Tests whose names no source has, by what their ids begin with.
MADE = {"deeds.test_texts.Odd.test_NUL": "passed", "deeds.test_texts.Longggg": "passed"}


def classes(module: ast.Module) -> list[ast.ClassDef]:
    return [node for node in module.body if isinstance(node, ast.ClassDef)]


def claims(folder: str) -> dict[str, str]:
    """Test id -> first line of its docstring, of all tests in a folder of the project."""
    found = {}
    for path in sorted((PROJECT / folder).glob("test_*.py")):
        for cls in classes(ast.parse(path.read_text())):
            for method in cls.body:
                if isinstance(method, ast.FunctionDef) and method.name.startswith("test"):
                    found[f"{folder}.{path.stem}.{cls.name}.{method.name}"] = (
                        ast.get_docstring(method) or ""
                    ).partition("\n")[0]
    return found


def fixture_claims() -> set[tuple[str, str]]:
    """(phase, class or module) of every fixture of `deeds` that is left by a BaseException.

    Docstrings that are its phase.
    """
    found = set()
    for path in sorted((PROJECT / "deeds").glob("test_*.py")):
        module = ast.parse(path.read_text())
        name = f"deeds.{path.stem}"
        said = [(name, ast.get_docstring(module))]
        said += [(f"{name}.{cls.name}", ast.get_docstring(cls)) for cls in classes(module)]
        for place, phase in said:
            if phase and re.fullmatch("(setUp|tearDown)(Class|Module)", phase):
                found.add((phase, place))
    return found


@dataclass
class Run:
    """A run of one folder of the project."""

    finished: Finished
    junit: Path
    journal: Path
    tests: dict[str, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        assert self.finished.json, self.finished
        tests = self.finished.json["tests"]
        self.tests = {test["id"]: test for test in tests}
        assert len(self.tests) == len(tests), "an id is there twice"

    def meets(self, test_id: str, claim: str) -> bool:
        """The test ended as claimed; AssertionError that says how else."""
        outcome, _, words = claim.partition(": ")
        test = self.tests[test_id]
        assert (test["outcome"], words in test["message"]) == (outcome, True), (
            test,
            str(self.finished)[-3000:],
        )
        return True

    def output(self, test_id: str) -> str:
        """What the test printed, as its record has it: reports show it of red tests only."""
        return self._outputs[list(self.tests).index(test_id)]

    @functools.cached_property
    def events(self) -> list[Journalled]:
        """The run's journal."""
        return journalled(self.journal)

    @functools.cached_property
    def _outputs(self) -> dict[int, str]:
        records = [
            record for event in self.events if event.kind == "records" for record in event.data
        ]
        return {
            record["index"]: record.get("output", "")
            for record in records
            if record["kind"] == "TestFinished"
        }

    def measured(self) -> dict[str, tuple[float, float]]:
        """Test id -> (seconds on record, seconds that the test itself took from the C library)."""
        found = {}
        for test_id, test in self.tests.items():
            if words := re.search(
                r"^measured ([\d.]+)$",
                self._outputs.get(list(self.tests).index(test_id), ""),
                re.MULTILINE,
            ):
                found[test_id] = (test["seconds"], float(words[1]))
        return found


class Ground:
    """One worker of so many slots for several runs."""

    def __init__(self, folder: Path, store: str, slots: int, **environment: Any) -> None:
        self.fleet = Fleet(folder, store)
        self._slots, self._environment = slots, environment

    def __enter__(self) -> Ground:
        self.fleet.__enter__()
        self.worker: Worker = self.fleet.worker(slots=self._slots, **self._environment)
        until(lambda: len(self.worker.children()) == self._slots, what="the slots")
        self.peak_before = self.peak()
        return self

    def __exit__(self, *exc: object) -> None:
        self.fleet.__exit__(*exc)

    def run(self, label: str, **environment: str) -> Run:
        junit = self.fleet.folder / f"{label}-{len(self.fleet.runs)}.xml"
        words = [
            "--crash-budget",
            "50",
            "--chunk-seconds",
            "0.5",
            "--junit-xml",
            str(junit),
            "--env",
            "SABOTAGE_*",
            label,
        ]
        finished = self.fleet.run(PROJECT, *words, **environment)
        journal = (
            self.fleet.folder / "state" / "dct_celery" / "runs" / f"{self.fleet.runs[-1].run}.jsonl"
        )
        return Run(finished, junit, journal)

    def peak(self) -> int:
        """Most memory that any process of the worker itself has ever had, in bytes."""
        pids = [self.worker.process.pid, *self.worker.children()]
        status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return max(int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) for text in status) * 1024


@pytest.fixture(scope="module")
def field_of_two(tmp_path_factory: pytest.TempPathFactory, fleet_store: str) -> Iterator[Ground]:
    with Ground(tmp_path_factory.mktemp("two") / "sabotage_fleet", fleet_store, 2) as ground:
        yield ground


@pytest.fixture(scope="module")
def deeds(field_of_two: Ground) -> Run:
    return field_of_two.run("deeds")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, fleet_store: str) -> Iterator[Ground]:
    with Ground(
        tmp_path_factory.mktemp("one") / "sabotage_fleet", fleet_store, 1, DCT_LEASE_SECONDS="1.5"
    ) as ground:
        yield ground


@pytest.fixture(scope="module")
def leaks(single: Ground) -> Run:
    return single.run("leaks")


@pytest.fixture(scope="module", params=["freezegun", "time-machine"])
def frozen(single: Ground, request: pytest.FixtureRequest) -> Run:
    return single.run("clocks", SABOTAGE_CLOCK=request.param)


# -- verdicts --------------------------------------------------------------------------


@pytest.mark.parametrize(("deed", "claim"), claims("deeds").items())
def test_every_act_of_sabotage_has_its_verdict(deeds: Run, deed: str, claim: str) -> None:
    # Given a verdict in the test's docstring / When it ran among all the others / Then
    assert deeds.meets(deed, claim)


def test_nothing_is_lost_and_nothing_is_there_twice(deeds: Run) -> None:
    # Given all that the sources have, and what they make
    known = claims("deeds")
    made = {test_id for test_id in deeds.tests if test_id.startswith(tuple(MADE))}
    unimportable = {"unittest.loader._FailedTest.deeds.test_exit_at_import"}
    # Then
    assert set(deeds.tests) == {*known, *made, *unimportable}
    assert {deeds.tests[test_id]["outcome"] for test_id in made} == {"passed"}
    assert len(made) == len(MADE)
    assert deeds.finished.code == 1, str(deeds.finished)
    assert deeds.finished.json["complete"]
    assert not deeds.finished.inner_traceback


def test_a_process_dies_of_its_own_test_alone(deeds: Run) -> None:
    # Given
    names = list(deeds.tests)
    # When
    deaths = Counter(
        names[event.data["index"]] for event in deeds.events if event.kind == "released"
    )
    # Then twice of each that kills it, and of no other
    assert deaths == {deed: 2 for deed, claim in claims("deeds").items() if "process died" in claim}


def test_sys_exit_at_import_is_the_error_of_its_module(deeds: Run) -> None:
    assert deeds.meets(
        "unittest.loader._FailedTest.deeds.test_exit_at_import", "error: ImportError"
    )


def test_every_fixture_that_exits_or_interrupts_is_an_event(deeds: Run) -> None:
    # Given / When
    events = {
        (event["phase"], event["id"].partition(" (")[2].rstrip(")"))
        for event in deeds.finished.json["fixtures"]
    }
    # Then
    assert events == fixture_claims()
    assert {event["outcome"] for event in deeds.finished.json["fixtures"]} == {"error"}


def test_what_such_a_fixture_kept_from_running_names_it(deeds: Run) -> None:
    # Given
    kept = [test for test in deeds.tests.values() if test["outcome"] == "not_run"]
    # Then
    assert kept
    assert all(
        test["covered_by"] in {event["id"] for event in deeds.finished.json["fixtures"]}
        for test in kept
    )


# -- texts and output ------------------------------------------------------------------


def test_the_junit_file_of_all_this_is_read_by_lxml_and_expat(deeds: Run) -> None:
    # Given / When
    import xml.etree.ElementTree as ET

    root, same = etree.parse(deeds.junit).getroot(), ET.parse(deeds.junit).getroot()
    # Then
    assert len(list(root.iter("testcase"))) == len(list(same.iter("testcase"))) >= len(deeds.tests)
    assert any("#x00" in (failure.text or "") for failure in root.iter("failure"))


@pytest.mark.parametrize(
    "name",
    [
        "test_100_megabytes_on_descriptor_1",
        "test_binary_on_descriptor_2",
        "test_unterminated_on_stdout",
        "test_much_and_fails",
    ],
)
def test_much_output_is_cut_in_its_middle(deeds: Run, name: str) -> None:
    # Given / When
    head, cut, tail = re.split(
        r"\n(\[… \d+ bytes cut …\])\n", deeds.output(f"deeds.test_output.Much.{name}")
    )
    # Then
    assert head.startswith("the first words")
    assert tail.endswith("the last words")
    assert int(cut.split()[1]) > 19_000_000
    if "binary" not in name:
        assert (len(head), len(tail)) == (64 << 10, 192 << 10)


def test_output_stays_with_its_test(deeds: Run) -> None:
    assert deeds.output("deeds.test_output.Much.test_quiet") == ""


def test_the_worker_does_not_grow_with_what_a_test_prints(field_of_two: Ground, deeds: Run) -> None:
    # Given a worker that has run nothing but this
    # Then no process of it was ever much larger than at its start
    assert field_of_two.peak() - field_of_two.peak_before < GROWTH


# -- time ------------------------------------------------------------------------------


def test_durations_are_right_while_a_test_freezes_time(deeds: Run) -> None:
    # Given
    measured = deeds.measured()
    # Then
    assert len(measured) == 7
    assert {i: pair for i, pair in measured.items() if not 0 <= pair[0] - pair[1] < EXACT} == {}


def test_durations_and_heartbeats_are_right_while_time_is_frozen_for_all(frozen: Run) -> None:
    # Given
    measured = frozen.measured()
    # Then
    assert all(frozen.meets(test_id, claim) for test_id, claim in claims("clocks").items())
    assert len(measured) == 4
    assert {i: pair for i, pair in measured.items() if not 0 <= pair[0] - pair[1] < EXACT} == {}
    assert {test["attempt"] for test in frozen.tests.values()} == {1}


# -- what a chunk leaves behind --------------------------------------------------------


@pytest.mark.parametrize(("test_id", "claim"), claims("leaks").items())
def test_what_one_chunk_leaves_the_next_does_not_find(leaks: Run, test_id: str, claim: str) -> None:
    assert leaks.meets(test_id, claim)


def test_the_next_chunk_is_recorded_after_streams_were_closed(leaks: Run) -> None:
    text = leaks.output("leaks.test_2_found.Finds.test_stdout")
    assert "heard on stdout" in text
    assert "heard on stderr" in text
