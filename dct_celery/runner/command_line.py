"""What `dct run` is started with: the test command's options, and what the settings add to them."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.test.runner import DiscoverRunner, get_max_test_processes

from dct_celery.errors import ConfigError
from dct_celery.runner import project_settings
from dct_celery.settings import OPTIONS, load

#: Option of the test command -> setting, in the order of the command line.
_VALUES = {
    "settings": "settings",
    "testrunner": "testrunner",
    "pythonpath": "pythonpath",
    "top_level": "top_level_directory",
    "durations": "durations",
    "junitxml": "junit_xml",
    "json": "json",
    "benchmark": "benchmark",
    "broker": "broker",
    "store": "store",
    "pool": "pool",
    "local": "local",
    "parallel": "parallel",
    "fallback": "fallback",
    "timeout": "timeout",
    "test_timeout": "test_timeout",
    "fixture_timeout": "fixture_timeout",
    "reruns": "reruns",
    "reruns_budget": "reruns_budget",
    "timings_file": "timings_file",
    "import_timings": "import_timings",
    "import_timings_csv": "import_timings_csv",
    "export_timings": "export_timings",
    "export_timings_csv": "export_timings_csv",
}
#: Those that select tests, or say how the project runs them.
_SELECT = ("settings", "testrunner", "pythonpath", "top_level")
_SWITCHES = (
    "failfast", "reverse", "buffer", "debug_sql", "timing", "coverage", "sequential", "keepdb",
)  # fmt: skip
_LISTS = {"test_name_patterns": "k", "tags": "tag", "exclude_tags": "exclude_tag"}
#: Options that Django gives a default; not passed on at that value, so that a variable or
#: [tool.dct] still counts.
_DJANGOS_OWN = {"pattern": "test*.py", "verbosity": 1}
#: Another spelling -> the option that it stands for.
_SPELLINGS = {"junit_xml": "junitxml", "runner_class": "testrunner", "most_slots": "parallel"}
_FLAGS = {option.name: max(option.flags, key=len) for option in OPTIONS if option.flags}
_HERE = (
    "no store is configured, so the tests run on this machine alone; for a fleet set DCT_STORE,"
    " --store or [tool.dct] store"
)
_NO_PDB = (
    "--pdb cannot work on slots, which have no terminal: run the test alone with"
    " --testrunner django.test.runner.DiscoverRunner --pdb"
)
_NO_COVERAGE = (
    "coverage measures this process alone, and the tests run on slots: give --coverage to the test"
    " command instead, or measure a sequential run, with --testrunner"
    " django.test.runner.DiscoverRunner"
)


class Refused(Exception):
    """This runner cannot honour an option."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the tests are run."""

    #: The arguments of `dct`.
    argv: list[str]
    #: Lines for people, before it begins.
    notes: list[str]
    #: Why the tests run here, in sequence; empty if they do not.
    in_sequence: str
    #: Variables for it.
    environment: dict[str, str]
    #: Where the JSON report is written; None if nobody asked for one.
    report: Path | None


def plan(runner: type[DiscoverRunner], options: Mapping[str, Any], labels: Sequence[str]) -> Plan:
    """Raises Refused for options that this runner cannot honour, ConfigError for wrong values."""
    given = one_spelling(options)
    _refuse_others(runner, given)
    found, notes = project_settings.read(django_settings)
    wanted = _wanted(given)
    settings, origins = load(wanted, env=os.environ, cwd=Path.cwd(), project=found)
    if settings.sequential:
        return Plan([], notes, f"{origins['sequential']} says so", {}, None)
    places = {origin for _, origin in found.values()}
    added = list(project_settings.flags(settings, origins, places))
    if origins["fallback"] == "default":
        added.append("--fallback=sequential")
    if _nowhere(origins):
        added.append("--local=auto")
        notes.append(_HERE)
    if given.get("pdb"):
        raise Refused(_NO_PDB)
    if _measured():
        raise Refused(_NO_COVERAGE)
    report = Path(settings.project_dir, settings.json) if settings.json else None
    argv = command_line(runner, given, labels, added)
    return Plan(argv, notes, "", project_settings.variables(settings, origins, places), report)


def _refuse_others(runner: type[DiscoverRunner], given: Mapping[str, Any]) -> None:
    """Raises ConfigError for an option of `dct run` that code gave and that nothing here passes on.

    Options of the project's own runner or test command are left to it, whatever they are called.
    """
    if "no_color" in given:  # the test command
        return
    taken = {*_VALUES, *_SWITCHES, *_DJANGOS_OWN, "shuffle", *(a.dest for a in _actions(runner))}
    for option in OPTIONS:
        if option.name not in taken and given.get(option.name) not in (None, False, [], ()):
            raise ConfigError(
                f"{option.name}: the test runner does not take it as an argument; set"
                f" {option.variable}, or {option.name.upper()!r} in CONCURRENT_TEST_CONFIG"
            )


def _nowhere(origins: Mapping[str, str]) -> bool:
    """Nothing says where the tests are to run."""
    places = ("store", "pool", "local", "local_fallback")
    return all(origins[name] == "default" for name in places)


def one_spelling(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with one name for each. Raises ConfigError for two that differ, and for a label
    that was taken for a path.
    """
    path = str(options.get("benchmark"))
    if ("--benchmark", path) in pairwise(sys.argv[2:]) and not path.endswith(".json"):
        raise ConfigError(
            f"--benchmark {path}: a path that follows ends in .json; put --benchmark behind the"
            f" labels, or write --benchmark={path} if it is a path"
        )
    given = {**options, "parallel": _parallel(options)}
    for other, name in _SPELLINGS.items():
        value = given.pop(other, None)
        if value is None:
            continue
        if given.get(name) not in (None, value):
            one, two = _spelled_flag(name), _spelled_flag(other)
            raise ConfigError(
                f"{one} {given[name]} and {two} {value} mean the same and differ; remove one"
            )
        given[name] = value
    return given


def _spelled_flag(name: str) -> str:
    flags = {"most_slots": "-n", "runner_class": "--runner"}
    return flags.get(name, f"--{name.replace('_', '-')}")


def _parallel(options: Mapping[str, Any]) -> str | None:
    """The most slots that were asked for; None for all.

    Django has put the number of cores in the place of "auto", which here means all slots, unless a
    variable of Django's names another number.
    """
    parallel = options.get("parallel") or 0
    words = sys.argv[2:]
    if "--parallel=0" in words or ("--parallel", "0") in pairwise(words):
        raise ConfigError("--parallel: 0 is not valid; give a whole number, at least 1, or auto")
    named = "DJANGO_TEST_PROCESSES" in os.environ
    if not named and parallel == get_max_test_processes() and not _counted(words, str(parallel)):
        return None
    return str(parallel) if parallel else None


def _counted(words: Sequence[str], number: str) -> bool:
    """The command line has no --parallel, or one with this number."""
    if not any(word.partition("=")[0] == "--parallel" for word in words):
        return True
    pairs = pairwise(words)
    return f"--parallel={number}" in words or ("--parallel", number) in pairs


def _wanted(given: Mapping[str, Any]) -> dict[str, object]:
    """The same for `settings.load`: setting -> value, as far as it was given."""
    wanted = {
        setting: str(given[name])
        for name, setting in _VALUES.items()
        if given.get(name) is not None
    }
    return {**wanted, **{name: True for name in _SWITCHES if given.get(name)}}


def command_line(
    runner: type[DiscoverRunner],
    given: Mapping[str, Any],
    labels: Sequence[str],
    added: Sequence[str] = (),
) -> list[str]:
    """The arguments of `dct` that mean the same, and those `added`. Raises Refused."""
    script = _script() if "no_color" not in given else None
    if script is not None:
        return [*_of_code(given, script), *added]
    argv = ["run", "--backend=django", *_command(), *added, *_values(given, _VALUES)]
    for name, default in _DJANGOS_OWN.items():
        if given.get(name, default) != default:
            argv.append(f"{_FLAGS[name]}={given[name]}")
    argv += [_FLAGS[name] for name in _SWITCHES if given.get(name)]
    for name, setting in _LISTS.items():
        for value in given.get(name) or ():
            argv += [min(_flags_of(setting), key=len), value]
    if (seed := given.get("shuffle", False)) is not False:
        argv.append("--shuffle=auto" if seed is None else f"--shuffle={seed}")
    argv += _extra(runner, given)
    return [*argv, "--", *labels] if labels else argv


def _of_code(given: Mapping[str, Any], script: list[str]) -> list[str]:
    """For a runner that the project's own code has made and called.

    Where the tests run, the same code makes it again: it selects the tests, and no argument does.
    """
    argv = ["run", "--backend=django", f"--command={shlex.join(script)}"]
    argv += _values(given, [name for name in _VALUES if name not in _SELECT])
    if given.get("failfast"):
        argv.append("--maxfail=1")
    return argv + (["--coverage"] if given.get("coverage") else [])


def _values(given: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    return [
        f"{_FLAGS[_VALUES[name]]}={given[name]}" for name in names if given.get(name) is not None
    ]


def _flags_of(setting: str) -> tuple[str, ...]:
    return next(option.flags for option in OPTIONS if option.name == setting)


def _measured() -> bool:
    """Coverage is measuring this process."""
    coverage = sys.modules.get("coverage")
    return coverage is not None and coverage.Coverage.current() is not None


def _command() -> list[str]:
    """--command, unless this process was started by the command that `dct run` uses anyway."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        own = ["-m", spec.name.removesuffix(".__main__")]
    elif file is not None and Path(file).resolve().is_relative_to(Path.cwd().resolve()):
        own = [os.path.relpath(file)]
    else:  # a program beside the project's, such as django-admin
        own = ["-m", "django"]
    before, after = consumed(sys.orig_argv, sys.argv)
    usual = ["manage.py"] if Path("manage.py").is_file() else ["-m", "django"]
    command = [*own, *before, *sys.argv[1:2], *after]
    return [] if command == [*usual, "test"] else [f"--command={shlex.join(command)}"]


def _script() -> list[str] | None:
    """The command that this process executes, if it can be executed again elsewhere: a script of
    the project, or a subcommand of Django.
    """
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if sys.argv[1:2] in (["shell"], ["shell_plus"]):
        return None
    if spec is not None:
        own = spec.name.removesuffix(".__main__")
        return ["-m", own, *sys.argv[1:]] if own == "django" else None
    if file is None or not Path(file).resolve().is_relative_to(Path.cwd().resolve()):
        return None
    return [os.path.relpath(file), *sys.argv[1:]]


def consumed(started: Sequence[str], left: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of a script's own: those that were on its command line and that it took from sys.argv.

    `started`: the words of the whole process, `left`: sys.argv. Returns those before the subcommand
    and those behind it.
    """
    if len(left) < 2 or left[1] not in started:
        return [], []
    place = started.index(left[1])
    first = next(
        (at for at, word in enumerate(started[:place]) if Path(word).name == Path(left[0]).name),
        place,
    )
    kept, behind = list(left[2:]), []
    for word in started[place + 1 :]:
        if word in kept:
            kept.remove(word)
        else:
            behind.append(word)
    return list(started[first + 1 : place]), behind


def _extra(runner: type[DiscoverRunner], given: Mapping[str, Any]) -> Iterator[str]:
    """Options that `dct run` does not have, as --extra for the test command of every process."""
    if given.get("debug_mode"):
        yield "--extra=--debug-mode"
    if not given.get("enable_faulthandler", True):
        yield "--extra=--no-faulthandler"
    from dct_celery.runner import ConcurrentTestRunner

    known = {action.dest for action in _actions(ConcurrentTestRunner)}
    for action in _actions(runner):
        value = given.get(action.dest, action.default)
        if action.dest not in known and value != action.default:
            yield from _spelled(action, value)


def _actions(runner: type[DiscoverRunner]) -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    runner.add_arguments(parser)
    return parser._actions


def _spelled(action: argparse.Action, value: object) -> Iterator[str]:
    flag = max(action.option_strings, key=len, default=action.dest)
    if not action.option_strings or action.nargs not in (None, 0, "?"):
        raise Refused(f"{flag} takes several arguments: give each to dct run with --extra")
    if action.nargs == 0:
        yield f"--extra={flag}"
    else:
        yield from (
            f"--extra={flag}={item}" for item in (value if isinstance(value, list) else [value])
        )
