"""pytest's own face: what `pytest --dct` reports is what pytest reports."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.pytest_runs import PytestRun, differences, distributed, sequential

TORTURE = Path(__file__).parents[1] / "pytest_torture"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, fleet_store: str) -> Iterator[Fleet]:
    """Two workers of one slot each, shared by the tests of this module."""
    with Fleet(tmp_path_factory.mktemp("pool"), fleet_store) as fleet:
        fleet.worker("build-a")
        fleet.worker("build-b")
        yield fleet


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project without Django."""
    return Path(shutil.copytree(TORTURE / "plain", tmp_path_factory.mktemp("torture") / "plain"))


def both(pool: Fleet, project: Path, *words: str, **environment: str) -> PytestRun:
    """The distributed run, after it was compared with the sequential one."""
    expected = sequential(project, *words, **environment)
    found = distributed(pool, project, *words, **environment)
    different = differences(expected, found)
    assert not different, "\n".join(different)
    return found


def test_torture_ends_as_the_sequential_run(pool: Fleet, plain: Path) -> None:
    # Given a sequential run / When the same tests run distributed / Then nothing differs
    found = both(pool, plain)
    assert found.code == 1
    assert len(found.cases) > 100


@pytest.mark.parametrize(
    "words",
    [
        ("-k", "session and not 3"),
        ("-m", "red"),
        ("--deselect", "test_scopes.py", "--deselect=test_ids.py::test_odd"),
        ("test_ids.py::TestOuter", "test_scopes.py::TestB::test_three"),
        ("test_outcomes.py::test_passes", "test_outcomes.py::test_passes", "--keep-duplicates"),
        ("packaged", "grouped"),
        ("skipped",),
        ("--import-mode=importlib", "test_session_1.py", "-o", "console_output_style=count"),
        ("-p", "no:terminal", "test_scopes.py"),
        ("--basetemp=chosen", "test_surroundings.py"),
        ("-W", "error", "test_outcomes.py"),
        ("-vv", "--durations=0", "--durations-min=100", "test_session_2.py"),
        ("--tb=short", "--capture=sys", "-l", "test_outcomes.py", "test_reports.py"),
        ("--runxfail", "test_outcomes.py"),
        ("-o", "junit_family=xunit1", "test_reports.py"),
        ("-n", "auto", "test_session_1.py"),
        ("--dist", "loadfile", "test_session_1.py", "test_scopes.py"),
        ("-q", "-q", "test_zz_last.py"),
        ("--maxfail=1000", "test_session_1.py"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_selection_ends_as_the_sequential_run(
    pool: Fleet, plain: Path, words: tuple[str, ...]
) -> None:
    # Given / When / Then
    if "-n" in words:
        expected, found = sequential(plain, *words[2:]), distributed(pool, plain, *words)
        assert "takes the place of xdist (-n" in found.out
        assert found.out.count("dct: ") == 1
        different = differences(expected, found)
        assert not different, "\n".join(different)
    else:
        both(pool, plain, *words)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 2),
        (("--continue-on-collection-errors",), 1),
        (("-x",), 1),
    ],
)
def test_what_cannot_be_collected_ends_as_in_the_sequential_run(
    pool: Fleet, plain: Path, words: tuple[str, ...], code: int
) -> None:
    # Given / When / Then
    found = both(pool, plain, *words, "broken", "test_session_1.py", TORTURE_TOO="broken")
    assert found.code == code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("-k", "nothing_is_called_so"), 5),
        (("no_such_file.py",), 4),
        (("test_ids.py::no_such_test",), 4),
        (("--no-such-option",), 4),
        (("--dist=each",), 4),
        (("--rootdir=..",), 4),
        (("--collect-only", "-q", "test_ids.py"), 0),
        (("--fixtures", "-q"), 0),
    ],
)
def test_exit_codes_are_those_of_pytest(
    pool: Fleet, plain: Path, words: tuple[str, ...], code: int
) -> None:
    # Given
    expected = sequential(plain, *words)
    # When
    found = distributed(pool, plain, *words)
    # Then
    assert found.code == code, found
    assert expected.code == code or words[0].startswith(("--dist", "--rootdir"))
    if code == 4:
        assert "Traceback" not in found.err + found.out


@pytest.mark.parametrize("words", [("-x",), ("--maxfail=2",)])
def test_the_first_failures_end_the_run(pool: Fleet, plain: Path, words: tuple[str, ...]) -> None:
    # Given tests of which the fourth file fails first in the order of the suite
    selection = ("test_session_4.py", "test_session_5.py", "test_session_6.py", *words)
    # When / Then
    expected = sequential(plain, *selection)
    found = distributed(pool, plain, *selection)
    assert found.code == expected.code == 1
    assert f"stopping after {1 if words == ('-x',) else 2} failures" in found.out


def test_words_of_the_environment_and_of_the_project_count(pool: Fleet, plain: Path) -> None:
    # Given / When / Then
    found = both(pool, plain, PYTEST_ADDOPTS="-k test_house --tb=line")
    assert " 1 passed" in found.out


def test_the_last_failures_are_remembered_and_selected(
    pool: Fleet, plain: Path, tmp_path: Path
) -> None:
    # Given a project of its own, as its cache is written
    project = Path(shutil.copytree(plain, tmp_path / "remembering"))
    words = ("test_session_1.py", "test_session_4.py", "test_scopes.py")
    # When its failures are remembered by a distributed run
    first = distributed(pool, project, *words)
    assert first.code == 1
    # Then both select these, and those first
    for option in ("--lf", "--ff"):
        cache = Path(shutil.copytree(project, tmp_path / option))
        expected = sequential(cache, *words, option)
        found = distributed(pool, project, *words, option)
        different = differences(expected, found)
        assert not different, "\n".join(different)
    assert 0 < len(distributed(pool, project, *words, "--lf").cases) < len(first.cases)


def test_a_test_that_ends_its_process_is_a_failure(
    pool: Fleet, plain: Path, tmp_path: Path
) -> None:
    # Given
    project = Path(shutil.copytree(plain, tmp_path / "dying"))
    (project / "test_dying.py").write_text(
        "import os\n\ndef test_dies():\n    os._exit(3)\n\ndef test_lives(): ...\n"
    )
    # When
    found = distributed(pool, project, "test_dying.py")
    # Then
    assert found.code == 1, found
    assert found.last_line == "1 failed, 1 passed in"
    assert "test_dying.py::test_dies" in found.out


def test_a_process_looks_like_a_worker_of_xdist(pool: Fleet, plain: Path, tmp_path: Path) -> None:
    # Given
    project = Path(shutil.copytree(plain, tmp_path / "looking"))
    (project / "conftest.py").write_text(
        """
import os, pytest

def pytest_configure_node(node):
    assert node.gateway.id == node.workerinput["workerid"] and node.config
    node.workerinput["told"] = ["by", "the", "dispatcher"]

def pytest_testnodedown(node, error):
    print("down:", error, hasattr(node, "workeroutput"))

def pytest_configure(config):
    config.told = getattr(config, "workerinput", {}).get("told")
"""
    )
    (project / "test_looks.py").write_text(
        """
import os, re, pytest, xdist

def look(request, worker_id, testrun_uid, record_property):
    assert xdist.is_xdist_worker(request) and not xdist.is_xdist_controller(request)
    assert request.config.told == ["by", "the", "dispatcher"]
    given = request.config.workerinput
    assert set(given) == {"workerid", "workercount", "testrunuid", "mainargv", "told"}
    assert worker_id == given["workerid"] == os.environ["PYTEST_XDIST_WORKER"]
    assert re.fullmatch(r"gw\\d+", worker_id)
    assert testrun_uid == given["testrunuid"] == os.environ["PYTEST_XDIST_TESTRUNUID"]
    assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == str(given["workercount"])
    assert "--dct" in given["mainargv"]
    record_property("worker", worker_id)
    record_property("run", testrun_uid)

def test_one(request, worker_id, testrun_uid, record_property):
    look(request, worker_id, testrun_uid, record_property)

@pytest.mark.parametrize("number", range(6))
def test_more(request, worker_id, testrun_uid, record_property, number):
    import time; time.sleep(0.3)
    look(request, worker_id, testrun_uid, record_property)
"""
    )
    # When
    found = distributed(pool, project, "test_looks.py", "-s", DCT_CHUNK_SECONDS="0.2")
    # Then
    assert found.code == 0, found
    parts = [part for case in found.cases for part in case if part.startswith("property ")]
    workers = {part for part in parts if "'worker'" in part}
    assert len(workers) == 2, workers
    assert len({part for part in parts if "'run'" in part}) == 1
    assert "down: None False" in found.out


# -- Django ----------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "sqlitefile", "pg", "mysql"])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """Variables for the project."""
    kind = request.param
    if kind.startswith("sqlite"):
        return {"TORTURE_DB": kind}
    name = {"pg": "postgres_server", "mysql": "mariadb_server"}[kind]
    server = request.getfixturevalue(name)
    place = {"HOST": server.host, "PORT": server.port, "USER": server.user,
             "PASSWORD": server.password}  # fmt: skip
    return {"TORTURE_DB": kind, **{f"TORTURE_DB{key}": str(value) for key, value in place.items()}}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with Django."""
    return Path(shutil.copytree(TORTURE / "django", tmp_path_factory.mktemp("torture") / "shelf"))


@pytest.mark.parametrize("slots", [1, 2])
def test_torture_with_databases_ends_as_the_sequential_run(
    fleet: Fleet, shelf: Path, database: dict[str, str], slots: int
) -> None:
    # Given
    for name in ("build-a", "build-b")[:slots]:
        fleet.worker(name, slots=1, wait=True, app="dct_celery", host=list, **database)
    expected = sequential(shelf, **database)
    # When
    found = distributed(fleet, shelf, **database)
    # Then
    different = differences(expected, found)
    assert not different, "\n".join(different)
    fleet.assert_tidy()


# -- dct run ---------------------------------------------------------------------------------


def worst_parts(cases: Iterable[tuple[str, str, Iterable[str]]]) -> dict[tuple[str, str], str]:
    """(class, name) -> the worst of error, failure, skipped; empty for a test that passed."""
    found: dict[tuple[str, str], str] = {}
    for cls, name, tags in cases:
        all_tags = {found.get((cls, name), ""), *tags}
        found[cls, name] = next(
            (tag for tag in ("error", "failure", "skipped") if tag in all_tags), ""
        )
    return found


def test_dct_run_has_the_verdicts_of_the_sequential_run(pool: Fleet, plain: Path) -> None:
    # Given
    words = ("test_outcomes.py", "test_scopes.py", "test_ids.py", "packaged", "test_zz_last.py",
             # It passes, and pytest's report calls the case skipped for its subtest.
             "--deselect=test_outcomes.py::test_subtests_that_skip")  # fmt: skip
    expected = sequential(plain, *words)
    # When
    finished = pool.run(
        plain,
        *("--backend", "pytest", "--junit-xml", "dct.xml", "--env", "TORTURE_*", "--", *words),
        PYTHONHASHSEED="7",
    )
    # Then
    assert finished.code == expected.code == 1, finished
    report = ET.parse(plain / "dct.xml")
    (plain / "dct.xml").unlink()
    found = worst_parts(
        (str(case.get("classname")), str(case.get("name")), [part.tag for part in case])
        for case in report.iter("testcase")
    )
    assert found == worst_parts(
        (
            case[0].removeprefix("classname="),
            case[1].removeprefix("name="),
            [part.partition(" ")[0] for part in case[2:]],
        )
        for case in expected.cases
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("broken",), 4, "2 errors during collection"),
        (("no_such_file.py",), 4, "file or directory not found: no_such_file.py"),
        (("--no-such-option",), 4, "unrecognized arguments: --no-such-option"),
        (
            ("--collect-only",),
            4,
            "--collect-only runs no tests on slots; run pytest",
        ),
        (("--pdb",), 4, "--pdb runs no tests on slots"),
        (("-k", "nothing_is_called_so"), 5, "no test was selected"),
    ],
)
def test_what_pytest_cannot_select_is_one_clear_error(
    pool: Fleet, plain: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    # When
    finished = pool.run(
        plain,
        *("--backend", "pytest", "--env", "TORTURE_*", "--", *words),
        TORTURE_TOO="broken" if words == ("broken",) else "",
    )
    # Then
    assert finished.code == code, finished
    assert message in finished.error
