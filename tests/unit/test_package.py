"""What is published: the contents of the archives, their installation, and the pinned versions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
#: Folders and endings of what tools leave in a checkout.
LITTER = {
    "__pycache__",
    ".cache",
    ".git",
    ".venv",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    "media",
}
LITTER_ENDINGS = {".pyc", ".pyo", ".so", ".sqlite3", ".log", ".orig", ".rej"}


class Archives(NamedTuple):
    """Both archives, as they would be uploaded."""

    sdist: Path
    wheel: Path

    def in_sdist(self) -> list[tarfile.TarInfo]:
        with tarfile.open(self.sdist) as archive:
            return archive.getmembers()

    def in_wheel(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Built by the build backend itself, which, unlike an isolated build, needs no index."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--directory", str(folder), cwd=ROOT)
    return Archives(next(folder.glob("*.tar.gz")), next(folder.glob("*.whl")))


def run(*words: str, cwd: Path) -> str:
    """What the command prints; this test fails if it does."""
    unwanted = ("PYTHON", "PIP_", "DCT_", "COV")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(unwanted)
    }
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def litter(names: Iterable[str]) -> list[str]:
    """The names that no archive may have."""
    paths = map(PurePosixPath, names)
    return [
        str(path) for path in paths if LITTER & set(path.parts) or path.suffix in LITTER_ENDINGS
    ]


# -- the archives ------------------------------------------------------------------------------


def test_no_link_of_the_sdist_leaves_it(archives: Archives, tmp_path: Path) -> None:
    # Given
    members = archives.in_sdist()
    # Then the filter of current pips lets every member pass; Python has it since 3.11.4
    if hasattr(tarfile, "data_filter"):
        for member in members:
            tarfile.data_filter(member, str(tmp_path))
    assert [member.name for member in members if PurePosixPath(member.linkname).is_absolute()] == []


def test_no_archive_holds_what_tools_left_in_the_checkout(archives: Archives) -> None:
    assert litter(member.name for member in archives.in_sdist()) == []
    assert litter(archives.in_wheel()) == []


def test_the_wheel_holds_every_file_of_the_package_and_the_licence(archives: Archives) -> None:
    # Given
    package = {
        path
        for path in (ROOT / "dct_celery").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    # When
    names = archives.in_wheel()
    # Then
    assert {name for name in names if not name.split("/")[0].endswith(".dist-info")} == {
        path.relative_to(ROOT).as_posix() for path in package
    }
    assert "dct_celery/py.typed" in names
    assert any(name.endswith(".lua") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_checks_it(archives: Archives) -> None:
    # When
    members = {member.name.partition("/")[2]: member for member in archives.in_sdist()}
    # Then
    wanted = {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "pyproject.toml",
        "constraints.txt",
    }
    assert wanted <= members.keys()
    assert {
        "dct_celery/py.typed",
        "tests/conftest.py",
        "deploy/docker/Dockerfile",
        "docs/databases.md",
    } <= members.keys()
    assert all(members[name].mode & 0o111 for name in ("deploy/test", "deploy/demo"))


def test_the_readme_and_the_addresses_are_in_the_metadata(archives: Archives) -> None:
    # When
    with zipfile.ZipFile(archives.wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    # Then
    assert (ROOT / "README.md").read_text().strip() in text
    assert {f"Project-URL: {name}, {address}" for name, address in PROJECT["urls"].items()} <= set(
        text.splitlines()
    )


def test_the_sdist_installs_and_runs_from_there(archives: Archives, tmp_path: Path) -> None:
    # Given an environment that borrows the dependencies and the build backend of this one
    venv.create(tmp_path / "env", symlinks=True, with_pip=False)
    programs = tmp_path / "env" / "bin"
    python = str(programs / "python")
    purelib = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    ).strip()
    borrowed = {
        str(metadata.distribution(name).locate_file("")) for name in ("pip", "hatchling", "click")
    }
    Path(purelib, "borrowed.pth").write_text("\n".join(borrowed))
    # When
    options = ("--ignore-installed", "--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    run(python, "-m", "pip", "install", *options, str(archives.sdist), cwd=tmp_path)
    # Then
    where = run(python, "-c", "import dct_celery; print(dct_celery.__file__)", cwd=tmp_path)
    assert Path(where.strip()).parent == Path(purelib, "dct_celery")
    assert (
        run(str(programs / "dct"), "--version", cwd=tmp_path).strip()
        == f"dct, version {PROJECT['version']}"
    )


# -- what it requires --------------------------------------------------------------------------


def requirements(lines: Iterable[str]) -> list[Requirement]:
    return [
        requirement
        for requirement in map(Requirement, lines)
        if canonicalize_name(requirement.name) != "dct-celery"
    ]


@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_what_an_extra_installs_is_used(extra: str) -> None:
    # Given
    source = "".join(path.read_text() for path in (ROOT / "dct_celery").rglob("*.py"))
    modules: dict[str, list[str]] = {}
    for module, names in metadata.packages_distributions().items():
        for name in names:
            modules.setdefault(canonicalize_name(name), []).append(module)
    # Then
    for requirement in requirements(PROJECT["optional-dependencies"][extra]):
        any_of = "|".join(map(re.escape, modules[canonicalize_name(requirement.name)]))
        assert re.search(rf"""(import|from) ({any_of})\b|["']({any_of})["']""", source), (
            f"nothing imports {requirement.name}"
        )


def test_all_is_the_sum_of_the_other_extras() -> None:
    # Given
    extras = dict(PROJECT["optional-dependencies"])
    # When
    (everything,) = map(Requirement, extras.pop("all"))
    # Then
    assert everything.extras == set(extras)


def test_an_untested_major_version_is_not_installed() -> None:
    # Given
    extras = PROJECT["optional-dependencies"].values()
    # When
    all_of_them = requirements(
        [*PROJECT["dependencies"], *(line for lines in extras for line in lines)]
    )
    unbounded = {
        each.name
        for each in all_of_them
        if not any(part.operator == "<" for part in each.specifier)
    }
    # Then packaging is left: its versions are years, which say nothing of compatibility
    assert unbounded == {"packaging"}


# -- the pinned versions -----------------------------------------------------------------------

PIN = re.compile(
    r'(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.+!]+)( ; python_version [<>]=? "3\.\d+")?'
)


def pins() -> list[re.Match[str]]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [PIN.fullmatch(line) for line in lines]
    assert [line for line, match in zip(lines, found, strict=True) if match is None] == []
    return [match for match in found if match is not None]


def wanted_by_us() -> Iterator[str]:
    """Requirements of the package, its extras and all dependency groups."""
    yield from PROJECT["dependencies"]
    for lines in PROJECT["optional-dependencies"].values():
        yield from lines
    for lines in PYPROJECT["dependency-groups"].values():
        yield from (line for line in lines if isinstance(line, str))


def test_pins_are_sorted_names_and_versions_alone() -> None:
    # When
    names = [pin["name"].lower() for pin in pins()]
    # Then
    assert names == sorted(names)
    assert len(pins()) > 40


def test_everything_that_is_installed_is_pinned() -> None:
    # Given
    pinned = {canonicalize_name(pin["name"]): pin["version"] for pin in pins()}
    waiting, seen = [(each, "") for each in requirements(wanted_by_us())], set()
    # When following the requirements of what is installed here in its pinned version
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if not wanted or (name, *requirement.extras) in seen:
            continue
        seen.add((name, *requirement.extras))
        # Then
        assert name in pinned
        if version_of(name) == pinned[name]:
            further = requirements(metadata.requires(name) or ())
            waiting += [(each, extra) for each in further for extra in ("", *requirement.extras)]
    assert len(seen) > 20


def version_of(name: str) -> str | None:
    """Of the installed distribution, if there is one: the lint group may be left out."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
