"""What the user asked for: the project's own command line, in a form that holds on any machine."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dct_celery.core import command
from dct_celery.core.backends import DJANGO, DJANGOS_OPTIONS, PYTEST
from dct_celery.core.command import Command
from dct_celery.core.part import WHOLE, Part
from dct_celery.errors import ConfigError
from dct_celery.protocol.runs import BackendName
from dct_celery.settings import OPTIONS, Settings
from dct_celery.wire import messages
from dct_celery.wire.pytest_reports import Input, split_arguments

#: Variables of the CI job that tests get without --env.
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
#: And those of pytest and its plugins.
_PYTESTS = ("PYTEST_*",)
#: And those that coverage.py reads, but for the place of its data, which is no other machine's.
_COVERAGE = ("COVERAGE_RCFILE", "COVERAGE_CORE")
#: Variables that are never forwarded, even with --env: each machine has its own.
_NEVER = (
    "LD_*",
    "PATH",
    "HOME",
    "PYTHONPATH",
    "PYTHONHOME",
    "DCT_*",
    "CELERY_*",
    # Of the process of pytest that this one may belong to.
    "PYTEST_XDIST_*",
    "PYTEST_CURRENT_TEST",
    "PYTEST_VERSION",
)


@dataclass(frozen=True, slots=True)
class Request:
    """One selection of tests of one project. It stands in the run's head, without variables."""

    backend: BackendName
    #: The command that runs the tests one after the other, with the options that it always needs;
    #: empty for a backend that has no such command.
    command: Command
    #: What selects and orders the tests: the command's other arguments, or the backend's.
    arguments: tuple[str, ...]
    #: The Django settings module as far as it is known without running anything.
    settings: str | None
    #: Absolute path of the root of the snapshot, and the working directory below it ("." for the
    #: root).
    root: str
    directory: str
    #: Entries for sys.path, relative to the root.
    sys_path: tuple[str, ...]
    environment: dict[str, str]
    hash_seed: str
    seed: int | None
    #: What runs of the tests that are selected.
    part: Part = WHOLE


def make_request(
    settings: Settings, root: Path, env: Mapping[str, str], seed: int | None, hash_seed: str
) -> Request:
    """Raises ConfigError if a path lies outside the project, or the backend lacks an option."""
    project = Path(settings.project_dir)
    directory = os.path.relpath(project.resolve(), root.resolve()).replace(os.sep, "/")
    if directory.startswith(".."):
        raise ConfigError(f"the project folder {project} is not below {root}")
    first, wanted = _own_command(settings), settings.env
    if settings.backend == DJANGO:
        own = (*first, *_lasting_arguments(settings, root))
        arguments = django_arguments(settings, seed)
        module = settings.settings or env.get("DJANGO_SETTINGS_MODULE") or _default(project, first)
    elif settings.backend == PYTEST:
        own, arguments, module = first, _plain_arguments(settings), None
        wanted = (*wanted, *_PYTESTS, *_COVERAGE)
    else:
        own, arguments, module = (), _plain_arguments(settings), None
    if settings.coverage:
        wanted = (*wanted, *_COVERAGE)
    return Request(
        backend=settings.backend,
        command=own,
        arguments=tuple(arguments),
        settings=module,
        root=str(root),
        directory=directory,
        sys_path=tuple(_sys_path(settings, root, directory, env, first)),
        environment=forwarded(env, wanted),
        hash_seed=hash_seed,
        seed=seed,
    )


def require_project(settings: Settings, env: Mapping[str, str]) -> None:
    """Raises ConfigError if there is no Django project. Called before anything is sent.

    Other backends check what they need when they collect.
    """
    project = Path(settings.project_dir)
    if settings.backend != DJANGO:
        return
    own = _own_command(settings)
    if own[0] != "-m" and not (project / own[0]).is_file():
        raise ConfigError(
            f"--command: {own[0]} is no file in {project}; name a script of the project, as in"
            " 'python manage.py test', or a module: 'python -m NAME'"
        )
    if settings.command or own != command.DJANGO:
        return
    if settings.settings or env.get("DJANGO_SETTINGS_MODULE"):
        return
    near = sorted(path.parent.name for path in project.glob("*/manage.py"))
    hint = f"manage.py is in {near[0]}/: run it there" if near else "run it in the project's folder"
    raise ConfigError(
        f"{project} has no Django project: no manage.py is there, and no settings module is named;"
        f" {hint}, or name the module with --settings, DJANGO_SETTINGS_MODULE or [tool.dct]"
        " settings; for tests of pytest without configuration: --backend pytest"
    )


def collect_order(request: Request) -> messages.Load:
    """The order for a collect process."""
    return messages.Load(
        backend=request.backend,
        command=request.command,
        arguments=request.arguments,
        root=request.root,
        directory=request.directory,
        sys_path=[os.path.normpath(Path(request.root, entry)) for entry in request.sys_path],
        collect_only=True,
    )


def _own_command(settings: Settings) -> Command:
    """Empty for a backend without. Raises ConfigError for an option that names none."""
    if settings.backend == PYTEST:
        return _pytest_command(settings)
    if settings.backend != DJANGO:
        return ()
    if settings.command is None:
        manage = Path(settings.project_dir) / command.MANAGE[0]
        return command.MANAGE if manage.is_file() else command.DJANGO
    try:
        script, *rest = command.parse(settings.command)
    except ValueError as error:
        raise ConfigError(f"--command: {error}") from None
    if os.path.isabs(script):
        script = os.path.relpath(script, settings.project_dir)
    return (script, *rest)


def _pytest_command(settings: Settings) -> Command:
    if settings.command is None:
        return command.PYTEST
    try:
        own = command.parse(settings.command)
    except ValueError as error:
        raise ConfigError(f"--command: {error}") from None
    if own not in (command.PYTEST, command.PYTEST_PROGRAM):
        raise ConfigError(
            f"--command: {settings.command!r} is not pytest; with --backend pytest give 'pytest' or"
            " 'python -m pytest', and its options behind --"
        )
    return own


def _lasting_arguments(settings: Settings, root: Path) -> list[str]:
    """The options that belong to the command whichever tests it runs."""
    options = [f"--settings={settings.settings}"] if settings.settings else []
    if settings.pythonpath:
        project = Path(settings.project_dir)
        _inside(project / settings.pythonpath, root, "--pythonpath")
        options.append(f"--pythonpath={os.path.relpath(project / settings.pythonpath, project)}")
    if settings.testrunner:
        options.append(f"--testrunner={settings.testrunner}")
    return [*options, *settings.extra]


def _plain_arguments(settings: Settings) -> list[str]:
    """Arguments for another backend than Django's."""
    instead = f"pass arguments to the backend {settings.backend} with --extra"
    if settings.backend == PYTEST:
        instead = "give pytest's own options behind --, as in: dct run -- -k cart"
    refused = (*DJANGOS_OPTIONS, "coverage" if settings.backend == PYTEST else "command")
    for option in OPTIONS:
        if option.name in refused and getattr(settings, option.name) != option.default:
            flag = max(option.flags, key=len)
            if option.name == "coverage":
                instead = "measure with pytest's --cov (pytest-cov) instead"
            raise ConfigError(
                f"{flag} ({option.variable}, or {option.key} in [tool.dct]) is for Django's tests;"
                f" remove it, and {instead}"
            )
    if settings.backend != PYTEST:
        return [*settings.extra, *settings.labels]
    given, words = split_arguments(settings.labels)
    # What is to be the same in each process of the run comes first.
    return [(given or Input("")).argument(), *settings.extra, *words]


def django_arguments(settings: Settings, seed: int | None) -> list[str]:
    """The arguments of the project's command that select and order the same tests."""
    argv = []
    if settings.verbosity != 1:
        argv.append(f"--verbosity={settings.verbosity}")
    for name in ("pattern", "top_level_directory"):
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
    return [*argv, *settings.labels]


def _default(project: Path, own: Command) -> str | None:
    """The module that the script sets where nobody names one; the script is read but not run."""
    try:
        return command.default_settings((project / own[0]).read_bytes())
    except OSError:
        return None


def external_pythonpath(env: Mapping[str, str], root: Path) -> list[str]:
    """Entries of PYTHONPATH outside the tree, which workers only have if theirs has them too."""
    entries = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return [
        entry
        for entry in entries
        if os.path.relpath(os.path.realpath(entry), os.path.realpath(root)).startswith("..")
    ]


def _sys_path(
    settings: Settings, root: Path, directory: str, env: Mapping[str, str], own: Command
) -> list[str]:
    """As Python's own start makes it: the script's folder, or the current one, comes first."""
    project = Path(settings.project_dir)
    first = [directory]
    if own == command.PYTEST_PROGRAM:
        first = []
    elif own and own[0] != "-m":
        first = [_inside((project / own[0]).resolve().parent, root, "--command")]
    elif settings.pythonpath and not own:  # Django's command takes the option itself
        first.insert(0, _inside(project / settings.pythonpath, root, "--pythonpath"))
    outside = set(external_pythonpath(env, root))
    inherited = [
        entry
        for entry in env.get("PYTHONPATH", "").split(os.pathsep)
        if entry and entry not in outside
    ]
    return [*first, *(_inside(project / entry, root, "PYTHONPATH") for entry in inherited)]


def _inside(path: Path, root: Path, origin: str) -> str:
    relative = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    if relative.startswith(".."):
        raise ConfigError(
            f"{origin}: {path} lies outside the project's tree {root}, so workers cannot have it"
        )
    return relative.replace(os.sep, "/")


def forwarded(env: Mapping[str, str], wanted: tuple[str, ...]) -> dict[str, str]:
    """The variables of the CI job that tests get; `wanted`: names and globs of --env."""

    def matches(name: str, patterns: tuple[str, ...]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    return {
        name: value
        for name, value in env.items()
        if matches(name, (*FORWARDED, *wanted)) and not matches(name, _NEVER)
    }
