"""Which rooms may load what, checked from outside: each claim imports modules in a new process."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import dct_celery
from dct_celery import security

PACKAGE = Path(dct_celery.__file__).parent
#: Third-party top-level names that a process of ours may import.
FLEET = {"celery", "kombu", "billiard", "vine", "amqp", "redis", "psycopg"}
PURE_ROOMS = ("core", "wire", "protocol")
IMPURE = {
    "os", "time", "pathlib", "io", "logging", "random", "threading", "socket", "subprocess",
    "tempfile", "secrets", "uuid", "asyncio", "select", "signal", "shutil", "multiprocessing",
    "sys", "http", "builtins", "importlib", *FLEET, "django", "pytest",
}  # fmt: skip


def modules_of(room: str) -> list[str]:
    """Every module of a room, the room itself included."""
    name = f"dct_celery.{room}"
    inner = pkgutil.walk_packages([str(PACKAGE / room)], f"{name}.")
    return [name, *(module.name for module in inner if not module.name.endswith("__main__"))]


def loaded_by(*modules: str) -> set[str]:
    """All modules that a fresh process has loaded after importing these."""
    code = (
        f"import sys\nfor name in {modules!r}: __import__(name)\nimport"
        " json\nprint(json.dumps(sorted(sys.modules)))"
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DCT_", "DJANGO_", "PYTHON"))
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**environment, "PYTHONPATH": str(PACKAGE.parent), "DCT_INSECURE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


PYTESTS = "dct_celery.testproc.backends.pytest"


def third_party(modules: set[str]) -> set[str]:
    """Top-level names from neither the standard library nor us.

    The start-up files of `site` do not count as imports.
    """
    names = (
        {name.partition(".")[0] for name in modules}
        - set(sys.stdlib_module_names)
        - {"dct_celery", "__main__"}
    )
    return names - {name.partition(".")[0] for name in loaded_by()}


@pytest.mark.parametrize("room", ["worker", "dispatcher"])
def test_a_room_of_the_fleet_never_loads_the_users_django(room: str) -> None:
    # When
    loaded = loaded_by(*modules_of(room))
    # Then
    assert not loaded & {"django", "django.conf", "django.apps", "django.db", "pytest"}
    assert not any(name.startswith("dct_celery.testproc") for name in loaded)


def test_the_celery_app_never_loads_the_users_django() -> None:
    # When
    loaded = loaded_by(
        "dct_celery.celery", "dct_celery.adapters.celeryqueue.app", *modules_of("worker")
    )
    # Then
    assert "celery" in loaded
    assert not loaded & {"django.conf", "django.apps", "django.db", "pytest", "_pytest"}


def test_the_test_process_never_loads_the_fleet() -> None:
    # When
    loaded = loaded_by(*modules_of("testproc"))
    # Then
    assert "dct_celery.testproc.main" in loaded
    assert not {name.partition(".")[0] for name in loaded} & FLEET


@pytest.mark.parametrize("room", ["core", "wire", "testproc"])
def test_rooms_of_the_users_process_need_nothing_but_the_standard_library_and_django(
    room: str,
) -> None:
    modules = [name for name in modules_of(room) if not name.startswith(PYTESTS)]
    assert third_party(loaded_by(*modules)) <= (
        {"django", "asgiref", "sqlparse"} if room == "testproc" else set()
    )


def test_the_tools_for_users_tests_need_django_alone() -> None:
    assert third_party(loaded_by("dct_celery.testing")) <= {"django", "asgiref", "sqlparse"}


def test_only_its_backend_and_its_plugin_load_pytest() -> None:
    # Given
    rooms = ("core", "wire", "protocol", "worker", "dispatcher", "reports", "bootstrap", "testproc")
    modules = [name for room in rooms for name in modules_of(room)]
    # When
    loaded = loaded_by("dct_celery.api", *(one for one in modules if not one.startswith(PYTESTS)))
    # Then
    assert not loaded & {"pytest", "_pytest"}
    assert "pytest" in loaded_by(f"{PYTESTS}.session")


def test_the_entry_point_of_pytest_loads_nothing_that_pytest_has_not() -> None:
    # When
    loaded = loaded_by("pytest", "dct_celery.pytest_plugin") - loaded_by("pytest")
    # Then
    assert third_party(loaded) == set()
    assert {name for name in loaded if name.startswith("dct_celery")} == {
        "dct_celery",
        "dct_celery.pytest_plugin",
    }


def test_the_package_itself_loads_nothing() -> None:
    # When
    loaded = loaded_by("dct_celery")
    # Then
    assert third_party(loaded) == set()
    assert {name for name in loaded if name.startswith("dct_celery")} == {"dct_celery"}


def test_the_public_names_of_security_cost_nothing_until_they_are_used() -> None:
    # When
    loaded = loaded_by("dct_celery.security")
    # Then
    assert {name for name in loaded if name.startswith("dct_celery")} == {
        "dct_celery",
        "dct_celery.security",
    }
    assert third_party(loaded) == set()


def test_every_public_name_of_security_is_there() -> None:
    for name in security.__all__:
        assert getattr(security, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'validate_nothing'"):
        vars(security)["__getattr__"]("validate_nothing")


PURE_OURS = (
    "dct_celery.core",
    "dct_celery.wire",
    "dct_celery.protocol",
    "dct_celery.errors",
    "dct_celery.security.signing",
)
PURE_FILES = [path for room in PURE_ROOMS for path in sorted((PACKAGE / room).rglob("*.py"))]
PURE_FILES.append(PACKAGE / "security" / "signing.py")


@pytest.mark.parametrize("path", PURE_FILES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_pure_module_imports_nothing_impure(path: Path) -> None:
    # When
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    # Then
    assert not {name.partition(".")[0] for name in imported} & IMPURE
    assert "urllib.request" not in imported
    ours = {name for name in imported if name.startswith("dct_celery")}
    assert all(name.startswith(PURE_OURS) for name in ours)


def test_every_pure_module_is_checked() -> None:
    assert len(PURE_FILES) > 15
    assert find_spec("dct_celery.core.run.machine") is not None
