"""pytest's own face: what `pytest --dct` reports is what pytest reports."""

from __future__ import annotations

import json
import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.fleet import Fleet
from tests.support.pytest_runs import PytestRun, differences, distributed, sequential

TORTURE = Path(__file__).parents[1] / "pytest_torture"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project without Django."""
    return Path(shutil.copytree(TORTURE / "plain", tmp_path_factory.mktemp("torture") / "plain"))


def both(fleet: Fleet, project: Path, *words: str, **environment: str) -> PytestRun:
    """The distributed run, after it was compared with the sequential one."""
    expected = sequential(project, *words, **environment)
    found = distributed(fleet, project, *words, **environment)
    different = differences(expected, found)
    assert not different, "\n".join(different)
    return found


def test_torture_ends_as_the_sequential_run(pair: Fleet, plain: Path) -> None:
    # Given two workers
    # When / Then
    found = both(pair, plain)
    assert found.code == 1
    assert len(found.cases) > 100


@pytest.mark.parametrize(
    "words",
    [
        ("-k", "session and not 3", "--import-mode=importlib", "-o", "console_output_style=count"),
        ("-m", "red", "--runxfail"),
        ("--deselect", "test_scopes.py", "--deselect=test_ids.py::test_odd"),
        (
            "test_ids.py::TestOuter", "test_scopes.py::TestB::test_three", "--keep-duplicates",
            "test_outcomes.py::test_passes", "test_outcomes.py::test_passes",
        ),
        ("packaged", "grouped", "skipped", "-vv", "--durations=0", "--durations-min=100"),
        ("-o", "addopts=", "-p", "no:terminal", "test_scopes.py"),
        ("-p", "no:reports", "test_scopes.py", "test_reports.py"),
        (
            "--basetemp=chosen", "--tb=short", "--capture=sys", "-l", "test_surroundings.py",
            "test_outcomes.py", "test_reports.py",
        ),
        ("-W", "error", "-o", "junit_family=xunit1", "test_outcomes.py", "test_reports.py"),
        ("-o", "addopts=-ra -n auto", "test_session_1.py"),
        (
            "--dist", "loadfile", "test_session_1.py", "test_scopes.py", "-q", "-q",
            "--maxfail=1000", "test_zz_last.py",
        ),
        ("-c", "pytest.ini", "--rootdir=packaged", "--confcutdir=packaged", "packaged"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_selection_ends_as_the_sequential_run(
    wide_fleet: Fleet, plain: Path, words: tuple[str, ...]
) -> None:
    # Given / When / Then
    if any("-n auto" in word for word in words):
        alone = [word.replace("-n auto", "") for word in words]
        expected, found = sequential(plain, *alone), distributed(wide_fleet, plain, *words)
        assert "takes the place of xdist (-n" in found.out
        assert found.out.count("dct: ") == 1
        different = differences(expected, found)
        assert not different, "\n".join(different)
    else:
        found = both(wide_fleet, plain, *words)
    assert found.code in (0, 1), found  # else it selects nothing


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 2),
        (("--continue-on-collection-errors",), 1),
        (("-x",), 1),
    ],
)
def test_what_cannot_be_collected_ends_as_in_the_sequential_run(
    wide_fleet: Fleet, plain: Path, words: tuple[str, ...], code: int
) -> None:
    # Given / When / Then
    found = both(wide_fleet, plain, *words, "broken", "test_session_1.py", TORTURE_TOO="broken")
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
    wide_fleet: Fleet, plain: Path, words: tuple[str, ...], code: int
) -> None:
    # Given
    expected = sequential(plain, *words)
    # When
    found = distributed(wide_fleet, plain, *words)
    # Then
    assert found.code == code, found
    assert expected.code == code or words[0].startswith(("--dist", "--rootdir"))
    if code == 4:
        assert "Traceback" not in found.err + found.out


@pytest.mark.parametrize("words", [("-x",), ("--maxfail=2",)])
def test_the_first_failures_end_the_run(
    wide_fleet: Fleet, plain: Path, words: tuple[str, ...]
) -> None:
    # Given tests of which the fourth file fails first in the order of the suite
    selection = ("test_session_4.py", "test_session_5.py", "test_session_6.py", *words)
    # When / Then
    expected = sequential(plain, *selection)
    found = distributed(wide_fleet, plain, *selection)
    assert found.code == expected.code == 1
    assert f"stopping after {1 if words == ('-x',) else 2} failures" in found.out


def test_words_of_the_environment_and_of_the_project_count(wide_fleet: Fleet, plain: Path) -> None:
    # Given / When / Then
    found = both(wide_fleet, plain, PYTEST_ADDOPTS="-k test_house --tb=line")
    assert " 1 passed" in found.out


def test_the_last_failures_are_remembered_and_selected(
    wide_fleet: Fleet, plain: Path, tmp_path: Path
) -> None:
    # Given a project of its own, as its cache is written
    project = Path(shutil.copytree(plain, tmp_path / "remembering"))
    words = ("test_session_1.py", "test_session_4.py", "test_scopes.py")
    # When its failures are remembered by a distributed run
    first = distributed(wide_fleet, project, *words)
    assert first.code == 1
    # Then both select these, and those first
    for option in ("--lf", "--ff"):
        cache = Path(shutil.copytree(project, tmp_path / option))
        expected = sequential(cache, *words, option)
        found = distributed(wide_fleet, project, *words, option)
        different = differences(expected, found)
        assert not different, "\n".join(different)
    assert 0 < len(distributed(wide_fleet, project, *words, "--lf").cases) < len(first.cases)


def order_of(run: PytestRun) -> list[str]:
    """Tests in the order in which a run with -v has shown them."""
    found = re.findall(r"^(\S+::\S+) (?:PASSED|FAILED)", run.out, re.MULTILINE)
    return list(dict.fromkeys(found))


def test_stepwise_goes_on_where_it_ended_and_new_tests_come_first(
    wide_fleet: Fleet, tmp_path: Path
) -> None:
    # Given three files of which the second is the newest and has a failure
    project = tmp_path / "growing"
    project.mkdir()
    for number, name in enumerate(("a", "b", "c")):
        file = project / f"test_{name}.py"
        file.write_text(f"def test_one(): ...\n\ndef test_two():\n    assert {name!r} != 'b'\n")
        os.utime(file, (1e9 + number % 2, 1e9 + number % 2))
    # When a run on slots has stopped there
    first = distributed(wide_fleet, project, "-v", "--sw")
    assert order_of(first)[-1] == "test_b.py::test_two"
    alone = Path(shutil.copytree(project, tmp_path / "alone"))
    # Then the next one goes on there, as the sequential run does
    expected, found = both_in(alone, wide_fleet, project, "-v", "--sw-skip")
    assert order_of(found) == order_of(expected) == [
        "test_b.py::test_two", "test_c.py::test_one", "test_c.py::test_two"
    ]  # fmt: skip
    # When there is a new test
    for place in (project, alone):
        (place / "test_d.py").write_text("def test_one(): ...\n")
    # Then it comes first, and the files after it by when they were changed
    expected, found = both_in(alone, wide_fleet, project, "-v", "--nf")
    assert order_of(found) == order_of(expected)
    assert order_of(found)[:2] == ["test_d.py::test_one", "test_b.py::test_one"]


def both_in(alone: Path, fleet: Fleet, project: Path, *words: str) -> tuple[PytestRun, PytestRun]:
    """The sequential run in `alone`, and the distributed one, which does not differ."""
    expected, found = sequential(alone, *words), distributed(fleet, project, *words)
    different = differences(expected, found)
    assert not different, "\n".join(different)
    return expected, found


def test_tests_that_mishandle_their_process_cost_no_verdict_but_their_own(
    wide_fleet: Fleet, plain: Path, tmp_path: Path
) -> None:
    # Given
    project = Path(shutil.copytree(plain, tmp_path / "dying"))
    (project / "test_dying.py").write_text(
        """
import os, time, pytest

@pytest.mark.timeout(0.5, method="thread")
def test_hangs():
    time.sleep(60)

def test_dies():
    os._exit(3)

def test_closes_all_descriptors():
    os.closerange(3, 4096)

def test_forks_and_returns_twice():
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)

def test_interrupts():
    raise KeyboardInterrupt

def test_lives(): ...
"""
    )
    # When
    found = distributed(wide_fleet, project, "test_dying.py")
    # Then
    assert found.code == 1, found
    assert found.last_line == "4 failed, 2 passed in"
    assert set(found.short_summary) == {
        f"FAILED test_dying.py::test_{name}"
        for name in ("hangs", "dies", "closes_all_descriptors", "interrupts")
    }
    # The stacks that pytest-timeout has written before it ended the process.
    assert "in test_hangs" in found.out


def test_files_beside_the_project_are_shown_as_in_the_sequential_run(
    wide_fleet: Fleet, tmp_path: Path
) -> None:
    # Given a package beside it, as in an environment, that fails and that warns of an object
    project, beside = tmp_path / "project", tmp_path / "environment"
    project.mkdir()
    beside.mkdir()
    (beside / "fails.py").write_text("def now():\n    raise ValueError('no')\n")
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "conftest.py").write_text(f"import sys\nsys.path.append({str(beside)!r})\n")
    (project / "test_a.py").write_text(
        """
import os
import fails

def test_a():
    try:
        fails.now()
    except ValueError:
        fails.now()

def test_in_another_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fails.now()

async def coroutine(): ...

def test_warns():
    coroutine()
"""
    )

    # When / Then
    found = both(wide_fleet, project)
    assert "../environment/fails.py:2: ValueError" in found.out
    assert "Enable tracemalloc" in found.out


def test_a_process_starts_with_the_variables_that_pytest_was_started_with(
    wide_fleet: Fleet, tmp_path: Path
) -> None:
    # Given a conftest.py that adds some, as one does that chooses Django's settings
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(
        """
import os

BEFORE = os.environ.get("PYTEST_OF_THE_SUITE", "")
os.environ["PYTEST_OF_THE_SUITE"] = BEFORE + "x"
"""
    )
    (tmp_path / "test_a.py").write_text(
        """
import os
from conftest import BEFORE

def test_a():
    assert (BEFORE, os.environ["PYTEST_OF_THE_SUITE"]) == ("", "x")
"""
    )

    # When / Then: on workers, and on this machine alone
    both(wide_fleet, tmp_path)
    assert distributed(wide_fleet, tmp_path, "--dct-local", "1").code == 0


def test_a_suite_that_is_another_in_each_process_is_named_with_its_cause(
    wide_fleet: Fleet, tmp_path: Path
) -> None:
    # Given
    project = tmp_path / "differing"
    project.mkdir()
    (project / "test_differing.py").write_text(
        """
import uuid, pytest

def test_first(): ...

@pytest.mark.parametrize("key", [str(uuid.uuid4())])
def test_of_a_key(key): ...
"""
    )
    # When
    found = distributed(wide_fleet, project)
    # Then
    assert found.code == 4, found
    assert "test 2 is test_differing.py::test_of_a_key[" in found.err
    assert "a uuid is part of the name; names must be the same in every process" in found.err
    assert "Traceback" not in found.err + found.out


def test_where_tests_cannot_be_distributed_they_run_in_sequence_if_that_was_wanted(
    wide_fleet: Fleet, tmp_path: Path
) -> None:
    # Given
    files = {
        "pytest.ini": "[pytest]\nDJANGO_SETTINGS_MODULE = chosen\npythonpath = .\n",
        "chosen.py": 'DATABASES = {"default": {"ENGINE": "engine", "NAME": ":memory:"}}\n'
        'INSTALLED_APPS = ["django.contrib.contenttypes"]\nSECRET_KEY = "x"\n',
        "engine/__init__.py": "",
        "engine/base.py": "from django.db.backends.sqlite3 import base\n\n"
        'class DatabaseWrapper(base.DatabaseWrapper):\n    vendor = "exotic"\n',
        "test_one.py": "import pytest\nfrom django.contrib.contenttypes.models import ContentType\n"
        "\ndef test_fails():\n    assert not 'one'\n\n@pytest.mark.django_db\n"
        "def test_asks(record_property):\n"
        "    record_property('kinds', ContentType.objects.count())\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    words = ("--cov=.", "--cov-report", "json:coverage.json")
    expected = sequential(tmp_path, *words)
    measured = json.loads((tmp_path / "coverage.json").read_text())["totals"]
    # When
    refused = distributed(wide_fleet, tmp_path, *words)
    found = distributed(wide_fleet, tmp_path, *words, DCT_FALLBACK="sequential")
    # Then
    assert refused.code == 4
    assert "--fallback sequential" in refused.out + refused.err
    different = differences(expected, found)
    assert not different, "\n".join(different)
    why = "not distributed: database 'default' is of vendor 'exotic'"
    assert found.out.count(f"dct: the tests run in sequence, {why}") == 1
    assert found.out.count(f"dct: the tests ran in sequence, {why}") == 1
    assert json.loads((tmp_path / "coverage.json").read_text())["totals"] == measured


@pytest.mark.parametrize(
    ("statement", "code", "line"),
    [
        ("raise LookupError('no such group')", 3, "LookupError: no such group"),
        ("pytest.exit('the licence server is away', 9)", 9, "the licence server is away"),
        ("pytest.exit('nothing to do today', 0)", 0, "nothing to do today"),
        ("raise pytest.UsageError('which group?')", 4, "which group?"),
    ],
)
def test_a_collection_that_a_hook_ends_has_the_exit_code_of_the_sequential_run(
    wide_fleet: Fleet, tmp_path: Path, statement: str, code: int, line: str
) -> None:
    # Given
    project = tmp_path / "ended"
    project.mkdir()
    (project / "test_one.py").write_text("def test_one(): ...\n")
    (project / "conftest.py").write_text(
        f"import pytest\n\ndef pytest_collection_modifyitems():\n    {statement}\n"
    )
    # When
    expected, found = sequential(project), distributed(wide_fleet, project)
    # Then
    assert (found.code, expected.code) == (code, code), found
    assert line in found.out + found.err


@pytest.mark.parametrize(
    ("conftest", "words", "line"),
    [
        (
            "def pytest_configure(config):\n"
            "    if hasattr(config, 'workerinput'):\n"
            "        raise pytest.UsageError('this suite runs in one process')\n",
            (),
            "this suite runs in one process",
        ),
        (
            "def pytest_configure(config):\n"
            "    if not hasattr(config, 'workerinput'):\n"
            "        raise pytest.UsageError('this suite needs xdist')\n",
            (),
            "this suite needs xdist",
        ),
        (
            "def pytest_addoption(parser):\n"
            "    parser.addoption('--testmon', action='store_true')\n",
            ("--testmon",),
            "--testmon keeps what each test has run in one file, which slots do not share",
        ),
    ],
    ids=["never distributed", "only distributed", "testmon"],
)
def test_a_project_that_cannot_be_distributed_is_one_clear_error(
    wide_fleet: Fleet, tmp_path: Path, conftest: str, words: tuple[str, ...], line: str
) -> None:
    # Given
    project = tmp_path / "refusing"
    project.mkdir()
    (project / "test_one.py").write_text("def test_one(): ...\n")
    (project / "conftest.py").write_text(f"import pytest\n\n{conftest}")
    # When
    found = distributed(wide_fleet, project, *words)
    # Then
    assert found.code == 4, found
    assert line in found.err
    assert "Traceback" not in found.err + found.out


@pytest.mark.parametrize("installed", [True, False])
def test_a_process_looks_like_a_worker_of_xdist(
    wide_fleet: Fleet, plain: Path, tmp_path: Path, installed: bool
) -> None:
    # Given
    project = Path(shutil.copytree(plain, tmp_path / "looking"))
    (project / "conftest.py").write_text(
        """
import os, pytest

@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    assert node.gateway.id == node.workerinput["workerid"] and node.config
    node.workerinput["told"] = ("by", b"the", {"dispatcher"})

@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    print("down:", node.gateway.id, error, sorted(node.workeroutput["ran"]))

def pytest_configure(config):
    config.told = getattr(config, "workerinput", {}).get("told")
    config.ran = set()

def pytest_runtest_teardown(item):
    item.config.ran.add(item.name)

def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        session.config.workeroutput["ran"] = session.config.ran
"""
    )
    (project / "test_looks.py").write_text(
        """
import os, re, pytest, xdist

@pytest.fixture
def worker_id(request):
    return xdist.get_xdist_worker_id(request)

@pytest.fixture
def testrun_uid(request):
    return request.config.workerinput["testrunuid"]

def look(request, worker_id, testrun_uid, record_property):
    assert xdist.is_xdist_worker(request) and not xdist.is_xdist_controller(request)
    assert request.config.told == ("by", b"the", {"dispatcher"})
    assert request.config.pluginmanager.hasplugin("xdist") == WITH_XDIST
    given = request.config.workerinput
    assert set(given) == {"workerid", "workercount", "testrunuid", "mainargv", "told"}
    assert worker_id == given["workerid"] == os.environ["PYTEST_XDIST_WORKER"]
    assert re.fullmatch(r"gw[1-9]\\d{0,2}", worker_id)
    assert testrun_uid == given["testrunuid"] == os.environ["PYTEST_XDIST_TESTRUNUID"]
    assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == str(given["workercount"])
    assert "--dct" in given["mainargv"]
    record_property("worker", worker_id)
    record_property("run", testrun_uid)
    record_property("pid", os.getpid())

def test_one(request, worker_id, testrun_uid, record_property):
    look(request, worker_id, testrun_uid, record_property)

@pytest.mark.parametrize("number", range(6))
def test_more(request, worker_id, testrun_uid, record_property, number):
    import time; time.sleep(0.3)
    look(request, worker_id, testrun_uid, record_property)
""".replace("WITH_XDIST", str(installed))
    )
    # When
    words = () if installed else ("-p", "no:xdist", "-p", "no:xdist.looponfail")
    found = distributed(wide_fleet, project, "test_looks.py", "-s", *words, DCT_CHUNK_SECONDS="0.2")
    # Then
    assert found.code == 0, found
    parts = [part for case in found.cases for part in case if part.startswith("property ")]
    workers = {part for part in parts if "'worker'" in part}
    assert len(workers) >= 2, workers
    assert len(workers) == len({part for part in parts if "'pid'" in part})
    assert len({part for part in parts if "'run'" in part}) == 1
    down = re.findall(r"down: .*", found.out)
    assert {line.split()[1] for line in down} == {part.split("'")[7] for part in workers}
    for number in range(6):
        assert sum(f"test_more[{number}]" in line for line in down) == 1


# -- Django ----------------------------------------------------------------------------------


@pytest.fixture
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


@pytest.mark.parametrize(
    ("database", "shared"),
    [("sqlite", "busy_fleet"), ("sqlitefile", "pair"), ("pg", "pair"), ("mysql", "pair")],
    indirect=["database"],
)
def test_torture_with_databases_ends_as_the_sequential_run(
    shared: str, shelf: Path, database: dict[str, str], request: pytest.FixtureRequest
) -> None:
    # Given
    fleet: Fleet = request.getfixturevalue(shared)
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


def test_dct_run_has_the_verdicts_of_the_sequential_run(wide_fleet: Fleet, plain: Path) -> None:
    # Given
    words = ("test_outcomes.py", "test_scopes.py", "test_ids.py", "packaged", "test_zz_last.py",
             # It passes, and pytest's report calls the case skipped for its subtest.
             "--deselect=test_outcomes.py::test_subtests_that_skip")  # fmt: skip
    expected = sequential(plain, *words)
    # When
    finished = wide_fleet.run(
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
    wide_fleet: Fleet, plain: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    # When
    finished = wide_fleet.run(
        plain,
        *("--backend", "pytest", "--env", "TORTURE_*", "--", *words),
        TORTURE_TOO="broken" if words == ("broken",) else "",
    )
    # Then
    assert finished.code == code, finished
    assert message in finished.error
