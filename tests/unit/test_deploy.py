"""The shell scripts below deploy/test and deploy/demo.

Which Pythons they find, when they make an environment, what runs together, and what the matrix
reports.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
#: Answers what deploy/venv.sh asks of a Python, and makes an environment that consists of itself.
PYTHON = """\
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *" --target "*) mkdir -p "$7" ;;
    "-m django --version") echo 9.9.9 ;;
    -) echo "{version} $0" ;;
esac
"""


def program(path: Path, text: str) -> str:
    """A shell script at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}")
    path.chmod(0o755)
    return str(path)


def python(path: Path, version: str) -> str:
    return program(path, PYTHON.format(version=version))


def shell(root: Path, script: str, **variables: str) -> tuple[int, list[str]]:
    """Exit code and lines of a script that has sourced the others, as deploy/test does."""
    sources = "".join(f"source {DEPLOY}/{name}.sh\n" for name in ("venv", "together", "matrix"))
    head = f"set -euo pipefail; root={root}; cd {root}\n{sources}"
    environment = {
        "PATH": f"{root}/bin:/usr/bin:/bin",
        "HOME": str(root),
        "NO_COLOR": "1",
        **variables,
    }
    done = subprocess.run(
        ["bash", "-c", head + script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout as far as the shell needs one."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("Django==5.2.1\nredis==8.0\n")
    return tmp_path


# -- environments ------------------------------------------------------------------------------


def makings(root: Path, *arguments: str, function: str = "make_venv") -> int:
    """How many environments a call of the function makes, one or none."""
    found = python(root / "bin" / "python3.12", "3.12")
    code, lines = shell(root, f"{function} {found} {root}/.cache/made {' '.join(arguments)}")
    assert code == 0, lines
    return sum("making" in line for line in lines)


@pytest.mark.parametrize("function", ["make_venv", "make_plugins"])
@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_an_environment_is_made_again_when_a_file_of_requirements_changes(
    root: Path, file: str, function: str
) -> None:
    def made() -> list[int]:
        words = ("-c", "constraints.txt", "-e", ".")
        return [makings(root, *words, function=function) for _ in range(2)]

    # Given
    assert made() == [1, 0]
    # When
    (root / file).write_text("something else\n")
    # Then
    assert made() == [1, 0]


def test_an_environment_of_the_newest_versions_lasts_a_day(root: Path) -> None:
    # Given
    program(root / "bin" / "date", "echo 2026-01-01")
    assert [makings(root, "-e", "."), makings(root, "-e", ".")] == [1, 0]
    # When
    program(root / "bin" / "date", "echo 2026-01-02")
    # Then one with pinned versions would last
    assert makings(root, "-e", ".") == 1


# -- checks at the same time -------------------------------------------------------------------


def test_checks_run_at_the_same_time_and_are_shown_in_turn(root: Path) -> None:
    # Given two that wait for one another
    for own, other in (("one", "two"), ("two", "one")):
        wait = f"until [[ -e {root}/{other}.there ]]; do sleep 0.01; done"
        program(root / "bin" / own, f"touch {root}/{own}.there\n{wait}\necho chat\necho $0 $1\n")
    # When
    found = shell(root, "together 'one x' 'two y'; echo over")
    # Then
    lines = ["== one x", f"{root}/bin/one x", "== two y", f"{root}/bin/two y", "over"]
    assert found == (0, lines)


def test_the_first_check_that_fails_is_the_last_and_shown_in_full(root: Path) -> None:
    # Given
    program(root / "bin" / "fails", "echo what\necho why >&2\nexit 3")
    program(root / "bin" / "endless", f"echo $$ > {root}/pid; exec sleep 600")
    (root / "tmp").mkdir()
    # When
    script = "together 'echo passes' fails endless 'echo never'; echo over"
    found = shell(root, script, TMPDIR=str(root / "tmp"))
    # Then
    assert found == (3, ["== echo passes", "passes", "== fails", "what", "why"])
    assert list((root / "tmp").iterdir()) == []
    pid = root / "pid"
    assert not pid.exists() or not Path(f"/proc/{pid.read_text().strip()}").exists()


# -- the matrix --------------------------------------------------------------------------------


def test_each_minor_version_is_found_once_wherever_it_lies(root: Path) -> None:
    # Given two on PATH, three with pyenv, one of which is there already and one too old to answer
    first = [python(root / "bin" / "python3.12", "3.12"), python(root / "bin" / "python3", "3.11")]
    later = [
        python(root / ".pyenv/versions" / version / "bin/python", version[:4])
        for version in ("3.12.9", "3.13.0")
    ]
    program(root / ".pyenv/versions/3.9/bin/python", "exit 0")
    # When
    _, lines = shell(root, "find_pythons")
    # Then this machine's own are behind them
    found = dict(line.split() for line in lines)
    assert (found["3.11"], found["3.12"], found["3.13"]) == (first[1], first[0], later[1])
    assert len(found) == len(lines)
    assert "3.9" not in found


def test_the_python_that_is_named_comes_first(root: Path) -> None:
    # Given
    python(root / "bin" / "python3.12", "3.12")
    named = python(root / "mine" / "python", "3.12")
    # When
    _, lines = shell(root, "find_pythons", PYTHON=named)
    # Then
    assert f"3.12 {named}" in lines


#: Two Pythons, and a pytest that dislikes Django 6.0 on the second one.
MATRIX = """
find_pythons() { printf '3.11 %s/bin/python3.11\\n3.12 %s/bin/python3.12\\n' "$root" "$root"; }
pinned=(-c constraints.txt) pytest_arguments=(-k some)
run_matrix
"""


@pytest.mark.parametrize(
    ("verdict", "cell"),
    [
        ("exit 0", "passed"),
        ("exit 1", "failed"),
        ("exit 2", "interrupted"),
        ("kill -9 $$", "interrupted"),
    ],
)
def test_the_table_has_each_cell_and_one_that_did_not_pass_fails_the_matrix(
    root: Path, verdict: str, cell: str
) -> None:
    # Given
    for version in ("3.11", "3.12"):
        python(root / "bin" / f"python{version}", version)
    program(root / "bin" / "pytest", f"[[ $PATH != *django6.0* ]] || {verdict}; echo pytest $*")
    # When
    code, lines = shell(root, MATRIX)
    # Then
    assert code == int(cell != "passed")
    table = lines.index("== Python × Django") + 1
    assert [
        line.split() for line in lines[table : table + 5]
    ] == [  # what the shell says of a signal is behind it
        ["5.2", "6.0", "newest"],
        ["3.11", "passed", "-", "-"],
        ["3.12", "passed", cell, "passed", "(9.9.9)"],
        ["Python", "3.13", "was", "not", "found"],
        ["Python", "3.14", "was", "not", "found"],
    ]
    tests = "tests/unit tests/contract tests/acceptance/test_torture.py"
    assert f"pytest -n 3 --dist loadfile -o testpaths={tests} -k some" in lines


def test_what_cannot_be_installed_is_reported_and_fails_the_matrix(root: Path) -> None:
    # Given
    for version in ("3.11", "3.12"):
        python(root / "bin" / f"python{version}", version)
    program(root / "bin" / "python3.12", "exit 1")
    program(root / "bin" / "pytest", "exit 0")
    # When
    code, lines = shell(root, MATRIX)
    # Then
    assert code == 1
    assert next(line for line in lines if line.startswith("3.12")).count("not installable") == 3


def test_only_django_differs_from_the_pinned_versions(root: Path) -> None:
    # Given
    for version in ("3.11", "3.12"):
        python(root / "bin" / f"python{version}", version)
    program(root / "bin" / "pytest", "exit 0")
    # When
    shell(root, MATRIX)
    # Then
    assert (root / ".cache/matrix/constraints.txt").read_text() == "redis==8.0\n"
