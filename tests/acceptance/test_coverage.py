"""Coverage of whole runs on two workers is that of the sequential run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.test_command import MANAGE
from tests.integration.test_coverage import CONFTEST, LIB, Measured, measured, sequential
from tests.support.fleet import Fleet
from tests.support.projects import make_project
from tests.support.pytest_runs import PytestRun, distributed
from tests.support.pytest_runs import sequential as pytest_alone

PYTEST = """
    import pytest
    from lib import f

    @pytest.mark.parametrize("number", range(20))
    def test_many(number, lasting, short):
        assert f(number)
"""
#: A migration that executes lines of the project.
FILLING = """
    from django.db import migrations
    from lib import h

    def fill(apps, schema_editor):
        apps.get_model("shelf", "Book").objects.create(title=str(h()))

    class Migration(migrations.Migration):
        dependencies = [("shelf", "0001_initial")]
        operations = [migrations.RunPython(fill)]
"""
DJANGO = """
    from django.test import TestCase, TransactionTestCase
    from lib import f
    from shelf.models import Book
""" + "".join(
    f"""
    class Rolls{number}(TestCase):
        @classmethod
        def setUpTestData(cls):
            Book.objects.create(title=str(f({number})))

        def test_books(self):
            self.assertEqual(Book.objects.count(), 2 if f({number}) else 3)

    class Transactional{number}(TransactionTestCase):
        def test_books(self):
            self.assertLess(Book.objects.count(), f({number}) + 1)
"""
    for number in range(1, 6)
)
DYING = """
    import os
    from django.test import SimpleTestCase
    from lib import f

    class Dies(SimpleTestCase):
        def test_dies(self):
            f(1)
            os._exit(3)

    class Lives(SimpleTestCase):
        def test_lives(self):
            f(2)
"""


def pytest_project(place: Path, files: Mapping[str, str]) -> Path:
    own = {"lib.py": LIB, "conftest.py": CONFTEST, "pyproject.toml": ""}
    return make_project(place, PYTEST, files={**own, **files})


def without_ends(found: Measured, script: str = "manage.py") -> Measured:
    """Without the script's own way out of its functions."""
    lines, arcs, contexts = found[script]
    return {**found, script: (lines, [arc for arc in arcs if arc[1] > 0], contexts)}


def test_a_django_suite_has_the_lines_branches_and_contexts_of_coverage_run(
    pair: Fleet, place: Path
) -> None:
    # Given
    files = {
        "lib.py": LIB,
        "manage.py": MANAGE,
        "shelf/migrations/0002_filled.py": FILLING,
        ".coveragerc": "[run]\nsource = .\nbranch = true\ndynamic_context = test_function\n",
    }
    project = make_project(place, DJANGO, files=files)
    expected = without_ends(sequential(project, "coverage", "run", "manage.py", "test"))
    # When, on workers that do not know it, and on those that do
    for _ in range(2):
        finished = pair.run(project, "--coverage")
        # Then
        assert finished.code == 0, finished
        assert "incomplete" not in finished.err
        assert without_ends(measured(project)) == expected


def without_contexts(found: Measured) -> Measured:
    return {file: (lines, arcs, {}) for file, (lines, arcs, _) in found.items()}


def test_tests_whose_process_died_are_counted_and_the_others_measured(
    pair: Fleet, place: Path
) -> None:
    # Given
    rc = "[run]\nsource = .\ndata_file = kept.data\n"
    project = make_project(place, DYING, files={"lib.py": LIB, ".coveragerc": rc})
    # When
    finished = pair.run(project, "--coverage")
    # Then
    assert finished.code == 1, finished
    assert "coverage is incomplete: 1 test ran in processes that died" in finished.err
    (project / "kept.data").rename(project / ".coverage")
    lines = measured(project)["lib.py"][0]
    assert 5 in lines  # of the test that lives
    assert 3 not in lines


def reports(run: PytestRun) -> tuple[int, list[str]]:
    """Exit code, and pytest-cov's section."""
    _, found, rest = run.out.partition(" tests coverage ")
    section = re.split(r"\n=+ ", rest)[0] if found else ""
    return run.code, section.splitlines()


@pytest.mark.parametrize(
    "words",
    [
        ("--cov=.", "--cov-branch", "--cov-context=test", "--cov-report=term-missing"),
        ("--cov=lib", "--cov-report=xml", "--cov-report=json:a.json", "--cov-fail-under=99"),
        ("--cov", "--no-cov", "-n", "2"),
        ("--cov=lib", "--cov-config=other.rc", "--cov-append", "-n", "2"),
    ],
    ids=" ".join,
)
def test_pytest_cov_reports_what_it_reports_of_the_sequential_run(
    pair: Fleet, place: Path, words: tuple[str, ...]
) -> None:
    # Given
    files = {
        ".gitignore": "*.json\n", "other.rc": "[run]\nbranch = true\n", "test_other.py": PYTEST
    }  # fmt: skip
    project = pytest_project(place, files)
    alone = tuple(word for word in words if word not in ("-n", "2"))
    found: list[tuple[int, list[str], Measured, str]] = []
    contexts: list[set[tuple[str, int, str]]] = []
    # When
    for run in (lambda: pytest_alone(project, *alone), lambda: distributed(pair, project, *words)):
        done = run()
        assert "INTERNALERROR" not in done.out, done
        data = measured(project) if (project / ".coverage").exists() else {}
        xml = project / "coverage.xml"
        text = re.sub(r'timestamp="\d+"', "", xml.read_text()) if xml.exists() else ""
        code, lines = reports(done)
        found.append((code, lines, without_contexts(data), text))
        contexts.append({
            (file, line, name)
            for file, (_, _, by_line) in data.items()
            for line, names in by_line.items()
            for name in names
        })  # fmt: skip
        xml.unlink(missing_ok=True)
    # Then
    expected, got = found
    assert got == expected
    assert contexts[1] >= contexts[0]  # fixtures of the session are set up in each process
    assert bool(got[2]) == ("--no-cov" not in words)
    assert sorted(path.name for path in project.glob(".coverage*")) == []


def test_dct_run_of_pytest_leaves_the_data_file(pair: Fleet, place: Path) -> None:
    # Given
    project = pytest_project(place, {})
    pytest_alone(project, "--cov=lib", "--cov-branch")
    expected = measured(project)
    # When
    finished = pair.run(project, "--backend", "pytest", "--", "--cov=lib", "--cov-branch")
    # Then
    assert finished.code == 0, finished
    assert without_contexts(measured(project)) == without_contexts(expected)


def test_coverage_of_a_local_run_from_the_test_command(place: Path) -> None:
    # Given a project whose settings choose our runner
    runner = 'TEST_RUNNER = "dct_celery.runner.ConcurrentTestRunner"\n'
    tests = DYING.replace("os._exit(3)", "f(9)")
    files = {"lib.py": LIB, ".coveragerc": "[run]\nsource = .\n", "manage.py": MANAGE}
    project = make_project(place, tests, files=files)
    expected = sequential(project, "coverage", "run", "manage.py", "test")
    with (project / "site_settings.py").open("a") as settings:
        settings.write(runner)
    # When
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "manage.py", "test", "--coverage", "--local", "2"],
        cwd=project, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # Then
    assert done.returncode == 0, done.stderr
    found = measured(project)
    settings_file = "site_settings.py"
    assert {**found, settings_file: None} == {**expected, settings_file: None}
