"""`pytest --dct`: the session of pytest that collects nothing and runs nothing by itself.

It is a dispatcher. The tests run on slots, and what pytest says of them there is said again here:
see `replay`. Options that run no tests, such as --collect-only, are left to pytest alone.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import secrets
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.main import pytest_runtestloop as run_in_sequence

from dct_celery import api
from dct_celery.core import globs
from dct_celery.core.model import RunReport
from dct_celery.errors import (
    CollectionError,
    DctError,
    Interrupted,
    NothingSelected,
    Unsuited,
    UsageError,
)
from dct_celery.pytest_plugin import ENVIRON, GIVEN, VALUES, WITHOUT_EFFECT, in_our_words
from dct_celery.pytest_plugin.coverage import Coverage
from dct_celery.pytest_plugin.interrupts import Interrupts
from dct_celery.pytest_plugin.node import Node
from dct_celery.pytest_plugin.replay import Replay
from dct_celery.settings import Settings
from dct_celery.wire.pytest_reports import Input

#: Options with which pytest runs no tests.
_ALONE = (
    "collectonly", "showfixtures", "show_fixtures_per_test", "markers", "cacheshow", "version",
    "help", "setupplan", "setuponly",
)  # fmt: skip
#: Options of dct run, in sentences that advise them, which are spelt in another way here.
_OTHERWISE_SPELT = re.compile(
    rf"(?<![\w-])--({'|'.join(flag.removeprefix('--dct-') for flag in VALUES)})\b(?!-)"
)
#: Options that read what earlier runs have left in pytest's cache.
_CACHED = ("lf", "failedfirst", "newfirst", "stepwise")


def install(config: pytest.Config) -> None:
    """Makes the session a dispatcher's. Raises pytest.UsageError."""
    option: Any = config.option
    if any(config.getoption(name, False) for name in _ALONE):
        return
    if option.usepdb or config.getoption("trace", False):
        raise pytest.UsageError(
            "--pdb and --trace need the terminal, which tests on slots do not have; leave out --dct"
        )
    if origin := _in_sequence(config):
        config.pluginmanager.register(InSequence(origin), "dct-in-sequence")
        return
    replaced = _take_place_of_xdist(config)
    config.pluginmanager.register(DispatcherSession(config, replaced), "dct-session")


def _take_place_of_xdist(config: pytest.Config) -> str:
    """Switches xdist's own processes off; to plugins the session stays a controller.

    Returns what was asked of xdist; empty where that is nothing.
    """
    option: Any = config.option
    if not hasattr(option, "numprocesses"):
        return ""
    asked = f"-n {option.numprocesses}" if option.numprocesses else ""
    if option.dist == "each":
        raise pytest.UsageError(
            "--dist each runs every test on each worker, which slots do not; leave it out"
        )
    option.dist, option.tx, option.numprocesses = "load", [], None
    return asked


def _in_sequence(config: pytest.Config) -> str:
    """The setting that says so; empty if none does. Raises pytest.UsageError."""
    try:
        settings, origins = api.load_with_origins(config.invocation_params.dir, backend="pytest")
    except DctError as error:
        raise pytest.UsageError(_told(error)) from error
    return origins["sequential"] if settings.sequential else ""


class InSequence:
    """The session stays pytest's own, and says so."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    @pytest.hookimpl
    def pytest_report_header(self) -> str:
        return f"dct: the tests run in sequence, not distributed: {self._origin} says so"


class FallenBack:
    """The session became pytest's own after all, and says so at its end, too."""

    def __init__(self, line: str) -> None:
        self._line = line

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.write_line(self._line)


class DispatcherSession:
    """In place of pytest's collection and run loop."""

    def __init__(self, config: pytest.Config, replaced: str) -> None:
        self._config = config
        self._replaced = replaced
        self._replay: Replay | None = None
        self._older = config.stash.get(GIVEN, {})
        self._words = own_words(in_our_words(config.invocation_params.args, self._older))
        self._coverage = Coverage(config)
        self._exit = 0

    @pytest.hookimpl
    def pytest_report_header(self) -> list[str]:
        notes = [f"takes the place of xdist ({self._replaced})"] if self._replaced else []
        if self._config.getoption("dct_worker_timeout", None) is not None:
            notes.append(
                "--worker-timeout has no effect: a slot takes tests for as long as the run lasts;"
                " --timeout limits the run, --test-timeout each test"
            )
        return [f"dct: {note}" for note in notes]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        session.items = []
        terminal: Any = self._config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.pytest_collection()  # says that it goes on
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        node = Node(self._config, {
            "workerid": "gw0",
            "workercount": _slots(self._config.option.dct_local) or os.cpu_count() or 1,
            "testrunuid": secrets.token_hex(16),
            "mainargv": list(sys.argv),
        }, but=[self._coverage.plugin])  # fmt: skip
        node.configure()
        settings, origins = self._settings(node)
        self._replay = replay = Replay(session, settings, node, self._coverage)
        self._coverage.pause()
        unsuited: Unsuited | None = None
        try:
            with Interrupts() as interrupts:
                report = api.run(
                    settings,
                    reporters=[replay],
                    interrupted=lambda: interrupts.seen or replay.over,
                    origins=origins,
                    environ=_environ(self._config, settings),
                )
        except (CollectionError, NothingSelected) as error:
            replay.collected(error.session, [])
            replay.end()
            if isinstance(error, NothingSelected):
                return True
            if session.shouldfail:
                raise session.Failed(session.shouldfail) from None
            if replay.interrupted:
                raise session.Interrupted(replay.interrupted) from None
            if error.status not in (None, UsageError.exit_code):
                pytest.exit(_told(error), returncode=error.status)
            raise pytest.UsageError(_told(error)) from error
        except Interrupted as error:
            raise session.Interrupted(str(error)) from None
        except DctError as error:
            if isinstance(error, Unsuited) and settings.fallback == "sequential":
                unsuited = error
            elif isinstance(error, UsageError):
                raise pytest.UsageError(_told(error)) from error
            else:
                pytest.exit(_told(error), returncode=error.exit_code)
        finally:
            node.down(replay.outputs)
            if unsuited is None:
                self._coverage.forget()
        if unsuited is not None:
            return self._fall_back(session, str(unsuited))
        replay.end()
        if interrupts.seen:
            raise KeyboardInterrupt
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        self._end_as(report, session)
        return True

    def _end_as(self, report: RunReport, session: pytest.Session) -> None:
        """Gives the session the exit code of the run, where no test has given it one."""
        if report.exit_code == 7:
            self._exit = 7
        elif report.exit_code == 1 and not session.testsfailed:
            self._exit = 1  # what failed is in no report of a test
        elif report.exit_code == UsageError.exit_code:
            raise pytest.UsageError(report.note)
        elif report.exit_code not in (0, 1):
            pytest.exit(report.note, returncode=report.exit_code)

    def _fall_back(self, session: pytest.Session, why: str) -> bool:
        """Collects and runs the tests as pytest does by itself."""
        line = f"dct: the tests run in sequence, not distributed: {why}"
        manager = self._config.pluginmanager
        manager.unregister(self)
        manager.register(FallenBack(line.replace(" run ", " ran ", 1)), "dct-fallen-back")
        terminal: Any = manager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.write_line(line)
        self._coverage.resume()
        session.config.hook.pytest_collection(session=session)
        return run_in_sequence(session)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._exit:
            session.exitstatus = self._exit

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._replay is not None:
            self._replay.summarize(terminalreporter)

    def _settings(self, node: Node) -> tuple[Settings, dict[str, str]]:
        """Raises pytest.UsageError."""
        option: Any = self._config.option
        given: dict[str, object] = {
            name: value
            for name, _, _ in VALUES.values()
            if (value := getattr(option, f"dct_{name}")) is not None
        }
        run_wide = Input(
            testrunuid=node.workerinput["testrunuid"],
            workercount=node.workerinput["workercount"],
            mainargv=tuple(sys.argv),
            seed=zlib.crc32(node.workerinput["testrunuid"].encode()),
            added=node.added(),
            modified=_modified(self._config) if self._config.getoption("newfirst", False) else {},
        )
        if _as_program():
            given["command"] = "pytest"
        given |= {"backend": "pytest", "labels": (run_wide.argument(), *self._words)}
        spelt = {ours: older for older, ours in self._older.items()}
        flags = {name: spelt.get(flag, flag) for flag, (name, _, _) in VALUES.items()}
        place = self._config.invocation_params.dir
        _require_inside(self._config, place)
        try:
            settings, origins = api.load_with_origins(place, **given)
            if option.dct_concurrent and {origins["store"], origins["local"]} == {"default"}:
                settings, origins = api.load_with_origins(place, **given, local=0)
        except DctError as error:
            raise pytest.UsageError(_in_our_words(str(error), flags)) from error
        named = {name: flags.get(name, origin) if name in given else origin
                 for name, origin in origins.items()}  # fmt: skip
        return self._with_cache(settings), named

    def _with_cache(self, settings: Settings) -> Settings:
        """Slots select as the cache of this machine says, so they get it."""
        from dataclasses import replace

        cache: Any = getattr(self._config, "cache", None)
        if cache is None or not any(self._config.getoption(name, False) for name in _CACHED):
            return settings
        values = cache._cachedir / "v" / "cache"
        if not values.is_dir():
            return settings
        folder = os.path.relpath(values, Path(settings.project_dir))
        pattern = f"{globs.escaped(folder).removeprefix('/')}/*"
        return replace(settings, include=(*settings.include, pattern))


def _environ(config: pytest.Config, settings: Settings) -> dict[str, str]:
    """The variables that this pytest was started with.

    What plugins and conftest files have added since, they add again where the tests are loaded, and
    some of it would lead them astray there; but what the user has asked for travels.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("DCT_") or any(fnmatch.fnmatchcase(name, one) for one in settings.env)
    } | config.stash[ENVIRON]


def _slots(given: str | None) -> int:
    """How many there will be, as far as that is known here."""
    return int(given) if given is not None and given.isdecimal() else 0


def _in_our_words(text: str, flags: Mapping[str, str]) -> str:
    """An error of the settings with the option as it is spelt here."""
    option, colon, rest = text.partition(": ")
    name = option.removeprefix("--").replace("-", "_")
    return f"{flags[name]}{colon}{rest}" if name in flags and option[:2] == "--" else text


def _modified(config: pytest.Config) -> dict[str, float]:
    """Path below the top of the tree -> when the file was changed. Raises pytest.UsageError."""
    root = _top(config.invocation_params.dir)
    skipped = [*config.getini("norecursedirs"), ".*", "__pycache__"]
    found = {}
    for folder, folders, files in os.walk(config.rootpath):
        folders[:] = [
            name for name in folders if not any(fnmatch.fnmatch(name, one) for one in skipped)
        ]
        for name in files:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                found[os.path.relpath(path, root)] = os.stat(path).st_mtime
    return found


def _top(place: Path) -> Path:
    """Of the tree that is sent. Raises pytest.UsageError."""
    from dct_celery.adapters.source.snapshot import find_root

    try:
        return find_root(place).resolve()
    except DctError as error:
        raise pytest.UsageError(_told(error)) from error


def _require_inside(config: pytest.Config, place: Path) -> None:
    """Raises pytest.UsageError where tests are named from a folder, or depend on a file of this
    session, that does not travel.
    """
    root = _top(place)
    if not config.rootpath.resolve().is_relative_to(root):
        raise pytest.UsageError(
            f"pytest's rootdir {config.rootpath} lies outside {root}, and workers get no more;"
            " choose it with --rootdir, or run pytest --dct from the top of the project"
        )
    manager: Any = config.pluginmanager
    loaded = [config.inipath, *(module.__file__ for module in manager._conftest_plugins)]
    # Tests of an installed package (--pyargs) are in the environment of each worker.
    places = (root, Path(sys.prefix).resolve())
    for file in sorted(str(file) for file in loaded if file is not None):
        if not any(map(Path(file).resolve().is_relative_to, places)):
            raise pytest.UsageError(
                f"{file} lies outside {root}, and workers get no more: run pytest --dct from a"
                " folder that holds both, or leave it out (-c, --confcutdir)"
            )


def own_words(args: Sequence[str]) -> tuple[str, ...]:
    """The command line without what is meant for this plugin."""
    kept: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, _ = word.partition("=")
        if name in ("--dct", "--dct-concurrent"):
            continue
        if name in (*VALUES, WITHOUT_EFFECT):
            if not equals:
                next(words, None)
            continue
        kept.append(word)
    return tuple(kept)


def _as_program() -> bool:
    """pytest was started by its script, so that its folder is on sys.path, and not this one."""
    return os.path.basename(sys.argv[0]) != "__main__.py"


def _told(error: DctError) -> str:
    line = _OTHERWISE_SPELT.sub(r"--dct-\1", str(error))
    return f"{line}\n{error.detail}".rstrip()
