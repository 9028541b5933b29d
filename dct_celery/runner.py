"""`manage.py test` through `dct run`: takes Django's options, returns dct's exit code.

    TEST_RUNNER = "dct_celery.runner.ConcurrentTestRunner"

`dct run` is started as a separate process, so that it loads the project as in every other run: by
the same command, which executes there and on every worker from its beginning. Options that are not
on the command line come from `DCT_*` variables and `[tool.dct]`, as always. `--parallel N` is
refused: the number of slots is that of the fleet, or of `--local N`. In a test process of dct, the
class behaves as Django's DiscoverRunner, so runs never nest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import CommandError
from django.test.runner import DiscoverRunner

#: This is a collect process, a loader or a test process; whoever starts one sets the variable.
IN_TEST_PROCESS = os.environ.get("DCT_TEST_PROCESS") == "1"
#: Exit codes of `dct run`.
_USAGE = 4
_FAILED = 1

#: Option of the test command -> flag of `dct run`.
_VALUES = {
    "settings": "--settings",
    "testrunner": "--testrunner",
    "pythonpath": "--pythonpath",
    "top_level": "--top-level-directory",
    "durations": "--durations",
    "junitxml": "--junit-xml",
    "json": "--json",
    "broker": "--broker",
    "store": "--store",
    "pool": "--pool",
    "local": "--local",
    "test_timeout": "--test-timeout",
    "fixture_timeout": "--fixture-timeout",
    "reruns": "--reruns",
    "reruns_budget": "--reruns-budget",
}
_SWITCHES = ("failfast", "reverse", "buffer", "debug_sql", "timing", "coverage")
_LISTS = {"test_name_patterns": "-k", "tags": "--tag", "exclude_tags": "--exclude-tag"}
#: Options that Django gives a default; not passed on at that value, so that a variable or
#: [tool.dct] still counts.
_DJANGOS_OWN = {"pattern": ("--pattern", "test*.py"), "verbosity": ("--verbosity", 1)}
_NO_PDB = (
    "--pdb cannot work on slots, which have no terminal: run the test alone with"
    " --testrunner django.test.runner.DiscoverRunner --pdb"
)
_NO_PARALLEL = (
    "--parallel is not for this runner: it uses every slot of the pool."
    " For N slots on this machine without a fleet, give --local {0}"
)
_NO_COVERAGE = (
    "coverage measures this process alone, and the tests run on slots: give --coverage to the test"
    " command instead, or measure a sequential run, with --testrunner"
    " django.test.runner.DiscoverRunner"
)
_KEEPDB = (
    "dct: note: --keepdb has no effect: databases are clones of a template, made for the run\n"
)


class ConcurrentTestRunner(DiscoverRunner):
    """Runs the tests on every worker of the pool; takes Django's options and a few of `dct run`."""

    #: The options as the test command passed them, whatever a subclass's `__init__` does to them.
    given: Mapping[str, Any]

    def __new__(cls, *_: object, **options: object) -> ConcurrentTestRunner:
        runner = super().__new__(cls)
        runner.given = options
        return runner

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        add = parser.add_argument_group("dct").add_argument
        add("--coverage", action="store_true", help="Measure coverage of the project's code.")
        add("--junitxml", metavar="PATH", help="Write JUnit XML.")
        add("--json", metavar="PATH", help="Write the report as JSON.")
        add("--store", metavar="URL", help="URL of the Redis or Valkey that keeps the run.")
        add("--broker", metavar="URL", help="URL of the Celery broker. Default: the store.")
        add("--pool", metavar="NAME", help="Pool of workers to use.")
        add(
            "--local",
            nargs="?",
            const="auto",
            metavar="N",
            help="Run on N slots of this machine instead of a fleet. Default: one per core, memory"
            " permitting.",
        )
        add(
            "--test-timeout",
            metavar="SECONDS",
            help="End a test that takes longer. Default: ten times its last duration, at least 60.",
        )
        add(
            "--fixture-timeout",
            metavar="SECONDS",
            help="End a class or module fixture that takes longer. Default: 300, or more by"
            " earlier runs.",
        )
        add(
            "--reruns",
            metavar="N",
            help="Run each failed test again, up to N times. Default: 0.",
        )
        add(
            "--reruns-budget",
            metavar="PERCENT",
            help="Stop reruns once more than PERCENT of all tests have failed. Default: 10.",
        )

    if not IN_TEST_PROCESS:

        def run_tests(self, test_labels: Sequence[str], **_: Any) -> int:
            """0 if all passed, 1 if tests failed. Raises SystemExit with any other exit code of
            dct, CommandError for options that this runner cannot honour.
            """
            try:
                argv = command_line(type(self), self.given, test_labels)
            except CommandError as error:
                _report_refusal(self.given, error)
                raise
            if self.given.get("keepdb"):
                sys.stderr.write(_KEEPDB)
            code = _run(
                [sys.executable, "-P", "-m", "dct_celery.cli", *argv],
                {**_environment(), **_colours(self.given)},
            )
            if code not in (0, _FAILED):
                raise SystemExit(code)
            return code


def _report_refusal(given: Mapping[str, Any], error: CommandError) -> None:
    """Replaces the reports of an earlier run, which must not pass for those of this one."""
    from dct_celery.bootstrap.report_files import report_failure
    from dct_celery.errors import UsageError

    flags = {"junit_xml": given.get("junitxml"), "json": given.get("json")}
    report_failure(flags, os.environ, Path.cwd(), UsageError(str(error)))


def command_line(
    runner: type[DiscoverRunner], given: Mapping[str, Any], labels: Sequence[str]
) -> list[str]:
    """The equivalent arguments of `dct`. Raises CommandError for options that it cannot honour."""
    if given.get("pdb"):
        raise CommandError(_NO_PDB, returncode=_USAGE)
    if (parallel := given.get("parallel") or 0) > 1:
        raise CommandError(_NO_PARALLEL.format(parallel), returncode=_USAGE)
    if _measured():
        raise CommandError(_NO_COVERAGE, returncode=_USAGE)
    argv = ["run", "--backend=django", *_command()]
    argv += [
        f"{flag}={given[name]}" for name, flag in _VALUES.items() if given.get(name) is not None
    ]
    for name, (flag, default) in _DJANGOS_OWN.items():
        if given.get(name, default) != default:
            argv.append(f"{flag}={given[name]}")
    argv += [f"--{name.replace('_', '-')}" for name in _SWITCHES if given.get(name)]
    for name, flag in _LISTS.items():
        for value in given.get(name) or ():
            argv += [flag, value]
    if (seed := given.get("shuffle", False)) is not False:
        argv.append("--shuffle=auto" if seed is None else f"--shuffle={seed}")
    argv += _extra(runner, given)
    return [*argv, "--", *labels] if labels else argv


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


def _environment() -> dict[str, str]:
    """The variables that this process was started with.

    What the project's command has added since, it adds again where the tests are loaded; settings
    of ours count wherever they come from.
    """
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if b"=" in entry)
    ours = {name: value for name, value in os.environ.items() if name.startswith("DCT_")}
    return {name: value for name, _, value in pairs} | ours


def _extra(runner: type[DiscoverRunner], given: Mapping[str, Any]) -> Iterator[str]:
    """Options that `dct run` does not have, as --extra for the test command of every process."""
    if given.get("debug_mode"):
        yield "--extra=--debug-mode"
    if not given.get("enable_faulthandler", True):
        yield "--extra=--no-faulthandler"
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
        raise CommandError(
            f"{flag} takes several arguments: give each to dct run with --extra",
            returncode=_USAGE,
        )
    if action.nargs == 0:
        yield f"--extra={flag}"
    else:
        yield from (
            f"--extra={flag}={item}" for item in (value if isinstance(value, list) else [value])
        )


def _colours(given: Mapping[str, Any]) -> dict[str, str]:
    return {
        variable: "1" for variable in ("NO_COLOR", "FORCE_COLOR") if given.get(variable.lower())
    }


def _run(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs the command, and returns its exit code.

    The process has its own session, so that each Ctrl-C reaches it once, from here: a second
    signal would kill it.
    """
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        early.append(number) if process is None else process.send_signal(number)

    with _handled(forward):
        process = subprocess.Popen(argv, env=env, start_new_session=True)
        for number in early:
            process.send_signal(number)
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP go to the handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
