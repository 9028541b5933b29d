"""Coverage that is measured in a loader and its fork is that of the sequential run: lines, branches
and contexts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import coverage
import pytest

from dct_celery.errors import ProcessDied
from dct_celery.reports import coverage_data
from dct_celery.wire import messages
from dct_celery.wire.pytest_reports import Input
from dct_celery.worker.processes.test_process import TestProcess
from tests.integration.test_command import MANAGE, answer_of
from tests.support.loaders import LoaderProcess, loader
from tests.support.projects import make_project

LIB = """
    def f(x):
        if x == 1:
            return 1
        elif x == 2:
            return 4
        if x == 3:
            return 9
        return 16

    def g():
        return 1

    def h():
        return 2
"""
DJANGO = """
    from django.test import SimpleTestCase
    from lib import f

    class First(SimpleTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            f(1)

        def test_one(self):
            self.assertEqual(f(2), 4)

    class Second(SimpleTestCase):
        def test_two(self):
            if f(3) == 9:
                return
            f(4)
"""
CONFTEST = """
    import pytest
    from lib import f

    @pytest.fixture(scope="session")
    def lasting():
        yield f(1)
        f(5)

    @pytest.fixture
    def short():
        yield
        f(3)
"""
PYTEST = """
    import subprocess, sys
    import pytest
    from lib import f, h

    def test_one(lasting, short):
        assert f(2)

    class TestTwo:
        def test_two(self, lasting):
            assert f(1)

        def test_three(self):
            subprocess.run([sys.executable, "-c", "import lib; lib.g()"], check=True)

    @pytest.mark.no_cover
    def test_four():
        h()
"""
#: (line or arc) -> contexts, by file.
Measured = dict[str, tuple[list[int], list[tuple[int, int]], dict[int, list[str]]]]


def measured(project: Path) -> Measured:
    """What is in the project's data file, which is removed."""
    data = coverage.CoverageData(str(project / ".coverage"))
    data.read()
    found = {
        os.path.relpath(file, project): (
            sorted(data.lines(file) or ()),
            sorted(data.arcs(file) or ()),
            {line: sorted(names) for line, names in data.contexts_by_lineno(file).items()},
        )
        for file in data.measured_files()
    }
    data.close()
    (project / ".coverage").unlink()
    return found


def sequential(project: Path, *command: str) -> Measured:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment, check=True,
        capture_output=True,
    )  # fmt: skip
    return measured(project)


def until_the_end(process: TestProcess) -> None:
    while not isinstance(process.receive(60), messages.ChunkFinished):
        pass


def of_chunks(running: LoaderProcess, project: Path, folder: Path) -> Measured:
    """Each test of the suite is a chunk of one fork."""
    folder.mkdir()
    with running.fork() as process:
        for index in range(running.loaded.count):
            file = str(folder / str(index))
            process.send(messages.RunChunk(str(index), [index], coverage=file))
            until_the_end(process)
    combined(project, folder)
    return measured(project)


def combined(project: Path, folder: Path) -> None:
    assert coverage_data.combine(str(folder), str(project), str(project / ".coverage"))


@pytest.fixture
def django_project(tmp_path: Path) -> Path:
    files = {
        "manage.py": MANAGE,
        "lib.py": LIB,
        ".coveragerc": "[run]\nsource = .\nbranch = true\ndynamic_context = test_function\n",
    }
    return make_project(tmp_path / "project", DJANGO, files=files)


def test_django_lines_branches_and_contexts_are_those_of_coverage_run(
    django_project: Path, tmp_path: Path
) -> None:
    # Given
    expected = sequential(django_project, "coverage", "run", "manage.py", "test")
    assert expected["lib.py"][2][5] == ["test_it.First.test_one"]
    # When
    command = ("manage.py", "test")
    with loader(django_project, tmp_path / "l", command=command, coverage=True) as running:
        assert running.loaded.measured
        found = of_chunks(running, django_project, tmp_path / "data")
    # Then all is equal, but for the script's own way out
    lines, arcs, contexts = expected["manage.py"]
    own = [arc for arc in arcs if arc[1] > 0 or arc[0] < 0]
    assert found["manage.py"] == (lines, own, contexts)
    assert found | {"manage.py": expected["manage.py"]} == expected


def test_classes_that_have_ended_are_written_should_the_process_die(
    django_project: Path, tmp_path: Path
) -> None:
    # Given a chunk of which one class takes longer than the pause between two files
    slow = "import time\ntime.sleep(2.1)\n"
    text = (django_project / "test_it.py").read_text()
    (django_project / "test_it.py").write_text(
        text.replace("        self.assertEqual(f(2), 4)", f"        exec({slow!r})")
        .replace("        if f(3) == 9:", "        import os; os._exit(9)\n        if f(3) == 9:")
    )  # fmt: skip
    folder = tmp_path / "data"
    folder.mkdir()
    # When its process dies in the next one
    command = ("manage.py", "test")
    with (
        loader(django_project, tmp_path / "l", command=command, coverage=True) as running,
        running.fork() as process,
    ):
        process.send(messages.RunChunk("c", [0, 1], coverage=str(folder / "c")))
        with pytest.raises(ProcessDied, match="exit 9"):
            until_the_end(process)
    # Then
    combined(django_project, folder)
    lines = measured(django_project)["test_it.py"][0]
    assert 8 in lines  # of setUpClass
    assert 16 not in lines  # of the test that died


@contextmanager
def pytest_loader(project: Path, folder: Path, *words: str) -> Iterator[LoaderProcess]:
    arguments = (Input("x").argument(), "-p", "no:cacheprovider", *words)
    with loader(project, folder, *arguments, backend="pytest", command=("-m", "pytest")) as running:
        yield running


def written(folder: Path, files: Mapping[str, str]) -> Path:
    make_project(folder, PYTEST, files=files)
    return folder


def test_pytest_lines_branches_and_contexts_are_those_of_pytest_cov(tmp_path: Path) -> None:
    # Given
    rc = "[run]\npatch = subprocess\n"
    files = {"lib.py": LIB, "conftest.py": CONFTEST, ".coveragerc": rc}
    project = written(tmp_path / "project", files)
    words = (
        "--cov=.",
        "--cov-branch",
        "--cov-context=test",
        "--cov-report=",
        "--cov-fail-under=100",
    )
    expected = sequential(project, "pytest", "-p", "no:cacheprovider", *words[:-1])
    assert expected["lib.py"][2][11] == [""]  # in a subprocess alone
    assert 14 not in expected["lib.py"][0]  # in a test that is not to be measured alone
    # When
    with pytest_loader(project, tmp_path / "l", *words) as running:
        assert running.loaded.measured
        found = of_chunks(running, project, tmp_path / "data")
    # Then
    assert found == expected
    assert not list(project.glob(".coverage*[!c]"))


def test_the_tear_down_of_a_session_is_part_of_the_last_chunk(tmp_path: Path) -> None:
    # Given a process that does not run the last test of the suite
    project = written(tmp_path / "project", {"lib.py": LIB, "conftest.py": CONFTEST})
    folder = tmp_path / "data"
    folder.mkdir()
    # When
    with (
        pytest_loader(project, tmp_path / "l", "--cov=lib", "--cov-report=") as running,
        running.fork() as process,
    ):
        process.send(messages.RunChunk("c", [1], coverage=str(folder / "c")))
        until_the_end(process)
        process.ask(messages.TearDown(), messages.TornDown, 60)
    # Then
    combined(project, folder)
    lines = measured(project)["lib.py"][0]
    assert 3 in lines  # of the set-up and the test: f(1)
    assert 8 in lines  # of the tear-down: f(5)


def test_a_collect_process_measures_nothing_and_knows_what_is_wanted(tmp_path: Path) -> None:
    # Given
    project = written(tmp_path / "project", {"lib.py": LIB, "conftest.py": CONFTEST})
    arguments = (Input("x").argument(), "--cov=.", "-p", "no:cacheprovider")
    # When
    with loader(
        project,
        tmp_path / "l",
        *arguments,
        backend="pytest",
        command=("-m", "pytest"),
        collect=True,
    ) as running:
        # Then
        assert running.loaded.measured
    assert not list(project.glob(".coverage*"))


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            {"coverage.py": "raise ImportError('none here')"},
            "coverage is not installed in the environment of",
        ),
        (
            {".coveragerc": "[run]\nbranch = perhaps\n"},
            "coverage cannot be measured: Couldn't read",
        ),
        (
            {"site_settings.py": "import coverage\ncoverage.Coverage().start()\n"},
            "the project's own command measures coverage, too",
        ),
    ],
)
def test_what_keeps_it_from_being_measured_is_one_line(
    tmp_path: Path, files: dict[str, str], line: str
) -> None:
    # Given
    project = make_project(tmp_path / "project", DJANGO, files={"lib.py": LIB, "manage.py": MANAGE})
    for name, text in files.items():
        before = (project / name).read_text() if name == "site_settings.py" else ""
        (project / name).write_text(before + text)
    # When
    answer = answer_of(project, coverage=True)
    # Then
    assert isinstance(answer, messages.Fatal), answer
    assert answer.message.startswith(line)
    assert "\n" not in answer.message
