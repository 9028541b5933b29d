"""Every command and example of docs/timings.md, in one project, on a slot of this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dct_celery.core.plan.timings import Sample
from dct_celery.dispatcher import timing_files

TEXT = (Path(__file__).parents[2] / "docs" / "timings.md").read_text()
CART = "shop.test_cart.Cart"
RUNNER = "dct_celery.runner.ConcurrentTestRunner"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one quick class, whose settings name the runner and the timings file."""
    folder = tmp_path / "site"
    (folder / "shop").mkdir(parents=True)
    (folder / "manage.py").write_text(
        "import os, sys\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'own_settings')\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    (example,) = re.findall(r"^TEST_TIMINGS_FILE = .*$", TEXT, re.MULTILINE)
    (folder / "own_settings.py").write_text(
        "from pathlib import Path\n"
        "BASE_DIR = Path(__file__).parent\n"
        f"SECRET_KEY = 'x'\nTEST_RUNNER = '{RUNNER}'\n{example}\n"
        "CONCURRENT_TEST_CONFIG = {'EXPORT_TIMINGS': 'configured.json'}\n"
    )
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "test_cart.py").write_text(
        "import unittest\n\n\n"
        "class Cart(unittest.TestCase):\n"
        "    def test_total(self): pass\n"
        "    def test_empty(self): pass\n"
    )
    return folder


def run(line: str, project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in the project's folder, for local runs with one slot."""
    bin_folder = Path(sys.executable).parent
    return subprocess.run(
        line,
        shell=True,
        cwd=project,
        env={
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(project.parent),
            "DCT_LOCAL": "1",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_command_of_the_documentation_does_what_it_says(project: Path) -> None:
    # Given what another tool has measured, and what is kept of the class in a file
    about_memory, about_runs = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    (project / ".test_durations").write_text(
        json.dumps({"shop/test_cart.py::Cart::test_total": 0.5, f"{CART}.test_empty": 0.7})
    )
    (project / "more.csv").write_text(f"test_id,duration_seconds\n{CART}.test_old,0.9\n")

    # When the tests have run in each way
    dct, manage, pytest_line = about_runs.splitlines()
    first = run(dct, project)
    after_first = timing_files.read(project / "timings.json")
    second = run(manage, project)
    third = run(pytest_line, project, PYTEST_ADDOPTS="--export-timings-csv=third.csv")

    # Then each has planned with the files, and has written what it was to write
    for done in (first, second, third):
        assert done.returncode == 0, done.stdout + done.stderr
    names = {f"t:{CART}.test_total", f"t:{CART}.test_empty"}
    assert after_first.keys() == {*names, "h:shop/test_cart.py::Cart::test_total"}
    last = timing_files.read(project / "timings.csv")
    assert {last[name].count for name in names} == {2}, "the average goes on"
    for name in ("test_timings.json", "configured.json"):
        assert timing_files.read(project / name) == last, "settings of Django"
    assert ("TEST_TIMINGS_FILE" in first.stderr, "TEST_TIMINGS_FILE" in second.stderr) == (
        False,
        True,
    ), "there is no .gitignore"
    assert f"t:{CART}.test_total" in timing_files.read(project / "third.csv")

    # When
    for line in about_memory.splitlines():
        done = run(line, project)
        # Then
        assert done.returncode == 0, line + done.stdout + done.stderr
    assert timing_files.read(project / "shop.csv")[f"h:{CART}.test_old"] == Sample(0.9, 1)

    # When
    (example,) = (text for text in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
                  if "import" in text)  # fmt: skip
    script = project / "example.py"
    script.write_text(example.replace("5.0", "0.5"))
    done = run("python example.py", project)
    # Then
    assert done.returncode == 0, done.stderr
