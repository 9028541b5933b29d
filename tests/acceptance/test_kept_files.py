"""Files that tests write on workers come home, as a sequential run would have left them."""

from __future__ import annotations

from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.projects import make_project
from tests.support.pytest_runs import distributed, sequential

DJANGO = """
    import os
    from django.test import SimpleTestCase
""" + "".join(
    f"""
    class Shows{number}(SimpleTestCase):
        def test_shot(self):
            os.makedirs("shots/deep", exist_ok=True)
            with open("shots/deep/{number}.txt", "w") as file:
                file.write("shot {number} {{0}}".format(os.environ["TOKEN"]))
            with open("all.log", "w") as file:
                file.write("{number}")
            with open("unwanted.txt", "w") as file:
                file.write("not asked for")
            self.assertLess({number}, 5)
"""
    for number in range(1, 6)
)
CONFTEST = """
    import os
    import pytest

    def pytest_addoption(parser):
        parser.addoption("--alluredir", dest="allure_report_dir")
        parser.addoption("--snapshot-update", dest="update_snapshots", action="store_true")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item):
        report = yield
        if report.when == "call":
            folder = os.environ["RESULTS"]
            os.makedirs(folder, exist_ok=True)
            name = report.nodeid.replace("/", "-").replace(":", "-")
            with open(os.path.join(folder, name + "-result.json"), "w") as file:
                file.write(report.outcome)
        return report
"""


def test_what_tests_write_is_where_it_was_asked_for(pair: Fleet, place: Path) -> None:
    # Given a folder with a shot of an earlier run
    project = make_project(place, DJANGO, files={"shots/deep/1.txt": "old", ".gitignore": "*.log"})
    # When
    finished = pair.run(
        project, "--artifact-path=shots/", "--artifact-path=*.log", "--env=TOKEN",
        TOKEN="swordfish-and-chips",
    )  # fmt: skip
    # Then
    assert finished.code == 1, finished
    shots = {path.name: path.read_text() for path in (project / "shots/deep").iterdir()}
    assert shots == {f"{number}.txt": f"shot {number} **" for number in range(1, 6)}
    logs = {path.name: path.read_text() for path in project.glob("all.log*")}
    assert logs.pop("all.log") == "5"
    assert set(logs.values()) <= {"1", "2", "3", "4"}
    assert ("all.log" in finished.err) == bool(logs)
    assert not (project / "unwanted.txt").exists()


def test_the_folder_of_a_plugin_comes_home_to_pytest(pair: Fleet, place: Path) -> None:
    # Given
    tests = "import pytest\n\n@pytest.mark.parametrize('n', range(9))\ndef test_n(n): assert n\n"
    files = {"conftest.py": CONFTEST, "pyproject.toml": ""}
    project = make_project(place, tests, files=files)
    words = ("--alluredir=results", "-p", "no:cacheprovider")
    sequential(project, *words, RESULTS="expected")
    # When
    found = distributed(pair, project, *words, RESULTS="results", DCT_ENV="RESULTS")
    # Then
    assert found.code == 1, found
    expected = {path.name: path.read_text() for path in (project / "expected").iterdir()}
    assert len(expected) == 9
    got = {path.name: path.read_text() for path in (project / "results").iterdir()}
    assert got == expected


def test_an_option_that_would_change_the_project_is_one_line(pair: Fleet, place: Path) -> None:
    # Given
    files = {"conftest.py": CONFTEST, "pyproject.toml": ""}
    project = make_project(place, "def test_one(): pass\n", files=files)
    # When
    found = distributed(pair, project, "--snapshot-update", RESULTS="results", DCT_ENV="RESULTS")
    # Then
    assert found.code == 4, found
    lines = [line for line in found.err.splitlines() if line.startswith("ERROR")]
    assert lines == [
        "ERROR: --snapshot-update changes files of the project, of which slots have copies: run"
        " pytest with --snapshot-update on this machine, without dct"
    ]
