"""What the user asked for, in the words that Django's `test` command takes, and in a form that holds on other machines."""

from __future__ import annotations

import ast
import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dct_celery.core.model import Verdict
from dct_celery.errors import ConfigError
from dct_celery.settings import Settings
from dct_celery.wire import messages

#: Variables of the CI job that reach the tests without being asked for.
FORWARDED = (
    "DJANGO_*",
    "CI",
    "TZ",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "PYTHONUTF8",
    "PYTHONDEVMODE",
    "PYTHONWARNINGS",
    "PYTHONOPTIMIZE",
)
#: Never forwarded, whatever the user names: they are the machine's own.
_NEVER = ("LD_*", "PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "DJANGO_SETTINGS_MODULE", "DCT_*", "CELERY_*")


@dataclass(frozen=True, slots=True)
class Request:
    """One selection of tests of one project."""

    argv: tuple[str, ...]
    settings: str | None
    #: Root of the snapshot, and the working directory below it ("." for the root).
    root: Path
    directory: str
    #: Entries for sys.path, relative to the root.
    sys_path: tuple[str, ...]
    environment: Mapping[str, str]
    hash_seed: str
    seed: int | None

    def rerun(self, verdict: Verdict) -> str:
        """The command that runs one test alone, without workers."""
        test = verdict.entry.id.removeprefix("unittest.loader._FailedTest.")
        if (self.root / self.directory / "manage.py").exists():
            return f"python manage.py test {test}"
        return f"python -m django test {f'--settings={self.settings} ' if self.settings else ''}{test}"


def make_request(settings: Settings, root: Path, env: Mapping[str, str], seed: int | None, hash_seed: str) -> Request:
    """Raises ConfigError when a path lies outside the project."""
    project = Path(settings.project_dir)
    directory = os.path.relpath(project.resolve(), root.resolve()).replace(os.sep, "/")
    if directory.startswith(".."):
        raise ConfigError(f"the project folder {project} is not below {root}")
    return Request(
        argv=tuple(test_arguments(settings, seed)),
        settings=settings.settings or env.get("DJANGO_SETTINGS_MODULE") or settings_of_manage_py(project / "manage.py"),
        root=root,
        directory=directory,
        sys_path=tuple(_sys_path(settings, root, directory, env)),
        environment=_forwarded(env, settings.env),
        hash_seed=hash_seed,
        seed=seed,
    )


def require_project(settings: Settings, env: Mapping[str, str]) -> None:
    """Before anything is sent or announced. Raises ConfigError where nothing says that there is a Django project."""
    project = Path(settings.project_dir)
    if settings.settings or env.get("DJANGO_SETTINGS_MODULE") or (project / "manage.py").exists():
        return
    near = sorted(path.parent.name for path in project.glob("*/manage.py"))
    hint = f"manage.py is in {near[0]}/: run it there" if near else "run it in the project's folder"
    raise ConfigError(
        f"{project} has no Django project: no manage.py is there, and no settings module is named; {hint}, or name the module "
        "with --settings, DJANGO_SETTINGS_MODULE or [tool.dct] settings"
    )


def collect_order(request: Request) -> messages.Load:
    """What a collect process is to load."""
    return messages.Load(
        argv=list(request.argv),
        settings=request.settings,
        root=str(request.root),
        directory=request.directory,
        sys_path=[os.path.normpath(request.root / entry) for entry in request.sys_path],
        collect_only=True,
    )


def test_arguments(settings: Settings, seed: int | None) -> list[str]:
    """The command line of `manage.py test` that selects and orders the same tests."""
    argv = [f"--verbosity={settings.verbosity}"]
    for name in ("pattern", "top_level_directory", "testrunner"):
        value = getattr(settings, name)
        if value is not None:
            argv.append(f"--{name.replace('_', '-')}={value}")
    switches = ("failfast", "reverse", "buffer", "debug_sql", "timing")
    argv += [f"--{name.replace('_', '-')}" for name in switches if getattr(settings, name)]
    argv += [f"--tag={tag}" for tag in settings.tag]
    argv += [f"--exclude-tag={tag}" for tag in settings.exclude_tag]
    for pattern in settings.k:
        argv += ["-k", pattern]
    if seed is not None:
        argv.append(f"--shuffle={seed}")
    return [*argv, *settings.extra, *settings.labels]


def settings_of_manage_py(path: Path) -> str | None:
    """The module that manage.py sets as default for DJANGO_SETTINGS_MODULE, read without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        values = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
        if len(values) == 2 and values[0] == "DJANGO_SETTINGS_MODULE" and isinstance(values[1], str):
            return values[1]
    return None


def strangers(env: Mapping[str, str], root: Path) -> list[str]:
    """Entries of PYTHONPATH outside the tree: workers will not have them unless theirs is set alike."""
    entries = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return [entry for entry in entries if os.path.relpath(os.path.realpath(entry), os.path.realpath(root)).startswith("..")]


def _sys_path(settings: Settings, root: Path, directory: str, env: Mapping[str, str]) -> list[str]:
    project = Path(settings.project_dir)
    entries = [settings.pythonpath] if settings.pythonpath else []
    found = [_inside(project / entry, root, "--pythonpath") for entry in entries]
    outside = set(strangers(env, root))
    inherited = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry and entry not in outside]
    return [*found, directory, *(_inside(project / entry, root, "PYTHONPATH") for entry in inherited)]


def _inside(path: Path, root: Path, origin: str) -> str:
    relative = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    if relative.startswith(".."):
        raise ConfigError(f"{origin}: {path} lies outside the project's tree {root}, so workers cannot have it")
    return relative.replace(os.sep, "/")


def _forwarded(env: Mapping[str, str], wanted: tuple[str, ...]) -> dict[str, str]:
    def matches(name: str, patterns: tuple[str, ...]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    return {name: value for name, value in env.items() if matches(name, (*FORWARDED, *wanted)) and not matches(name, _NEVER)}
