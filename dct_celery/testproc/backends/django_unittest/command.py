"""Executes the project's own command as far as to the point where it would create databases.

The command runs in this process: its script is `__main__` and sees the arguments of the sequential
run, so that whatever it does first (load `.env`, extend sys.path, choose settings, patch, run other
commands) has happened. Django's runner builds the suite under the command's own control. Where the
runner is told to set up databases, `take` is called instead, and does not return before this
process is to end: the command's frames stay on the stack, as in the sequential run.

Two things are watched until then, and put back for the tests: runners that are made, and programs
that would replace this one.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib.util
import os
import shlex
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from typing import Any, NoReturn

from dct_celery.testproc.backends.base import LoadFailed, failing_as, headline, project_trace
from dct_celery.testproc.isolation.printed import Printed
from dct_celery.wire import messages

#: Called with the project's runner and the suite that it has built.
Take = Callable[[Any, Any], None]
_RUNNERS = "django.test.runner"
#: Where Django imports what the project's settings name.
_SETTINGS = ("/django/conf/", "/django/apps/", "/django/test/utils.py")


def run(command: Sequence[str], arguments: Sequence[str], take: Take) -> None:
    """Executes the command, with these further arguments.

    Returns when the command has ended behind `take`. Raises LoadFailed if it ends before.
    """
    execution = _Execution(command, take)
    execution.watch()
    ended = execution.run(arguments)
    if not execution.taken:
        raise LoadFailed(execution.explained(ended))


class _Execution:
    """One execution of the command, in the main thread."""

    def __init__(self, command: Sequence[str], take: Take) -> None:
        self.taken = False
        self._command = command
        self._line = shlex.join(["python", *command])
        self._take = take
        self._pid = os.getpid()
        #: Why the command cannot come to its tests, where it may not show that itself.
        self._failure: messages.Fatal | None = None
        self._suites: dict[int, Any] = {}
        self._restore = contextlib.ExitStack()
        self._printed = Printed()

    # -- the command -------------------------------------------------------------------

    def run(self, arguments: Sequence[str]) -> BaseException | None:
        """What ended the command, or None if it came to its end."""
        try:
            _execute(self._command, arguments)
        except BaseException as error:
            if self.taken and not isinstance(error, SystemExit):
                traceback.print_exc()  # of its last steps, when nobody waits for it any more
            return error
        finally:
            self._restore.close()
        return None

    def explained(self, ended: BaseException | None) -> messages.Fatal:
        """Why the command ended before its tests, in one line, with the project's traceback."""
        if self._failure is not None:
            return self._failure
        if isinstance(ended, LoadFailed):
            return ended.fatal
        if ended is None:
            return messages.Fatal("command", self._without_tests(""))
        if isinstance(ended, SystemExit):
            reason = self._reason(ended)
            status = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
            if not status:
                return messages.Fatal("command", self._without_tests(reason))
            text = f"{self._line} ended with exit status {status} before it came to its tests"
            return messages.Fatal("command", f"{text}: {reason}" if reason else text)
        trace = project_trace(ended)
        if _of_settings(ended):
            return messages.Fatal("settings", _with_hint(ended), trace)
        text = f"{self._line} failed before it came to its tests: {headline(ended)}"
        return messages.Fatal("command", text, trace)

    def _without_tests(self, said: str) -> str:
        """Why a command that ended well is of no use: another process may have run the tests."""
        said = f", saying {said!r}" if said else ""
        return (
            f"{self._line} ended before it came to its tests{said}; name the command that runs them"
            " in its own process with --command"
        )

    def _reason(self, ended: SystemExit) -> str:
        """What the command has said of its exit: Django prints an error and exits."""
        if isinstance(ended.code, str):
            return ended.code.strip().partition("\n")[0]
        if type(ended.__context__).__name__ == "CommandError":
            return str(ended.__context__).strip().partition("\n")[0]
        said = self._printed.text()
        return said.splitlines()[-1].strip() if said else ""

    # -- what is watched ---------------------------------------------------------------

    def watch(self) -> None:
        """Watches for runners, once Django defines them: it must not be imported before the
        command does.
        """
        finder = _AfterImport(_RUNNERS, self._watch_runners)
        sys.meta_path.insert(0, finder)
        self._restore.callback(finder.remove)
        for name in ("execv", "execve"):
            self._replace(os, name, functools.partial(self._exec, getattr(os, name)))

    def _watch_runners(self, module: Any) -> None:
        import django.test.utils

        make, find = module.DiscoverRunner.__init__, django.test.utils.get_runner

        @functools.wraps(make)
        def __init__(runner: Any, *args: Any, **options: Any) -> None:
            make(runner, *args, **options)
            self._watch_runner(runner)

        @functools.wraps(find)
        def get_runner(*args: Any, **options: Any) -> Any:
            cls = find(*args, **options)
            if not issubclass(cls, module.DiscoverRunner):
                self._failure = messages.Fatal(
                    "settings",
                    f"the test runner {cls.__module__}.{cls.__qualname__} is not based on Django's"
                    " DiscoverRunner, so its tests cannot be distributed; name one that is with"
                    " --testrunner",
                )
                raise SystemExit(1)
            return cls

        self._replace(module.DiscoverRunner, "__init__", __init__)
        self._replace(django.test.utils, "get_runner", get_runner)
        self._replace(module, "_setup_databases", self._unwatched)
        self._replace(django.test.utils, "setup_databases", self._unwatched)

    def _watch_runner(self, runner: Any) -> None:
        _make_sequential(runner)
        for name, method in (
            ("build_suite", self._build_suite),
            ("setup_databases", self._setup_databases),
        ):
            setattr(runner, name, functools.partial(method, runner))
            self._restore.callback(vars(runner).pop, name, None)

    def _build_suite(self, runner: Any, *args: Any, **options: Any) -> Any:
        _make_sequential(runner)  # a subclass may have chosen otherwise
        try:
            with failing_as("labels"):
                suite = type(runner).build_suite(runner, *args, **options)
        except LoadFailed as failed:
            self._failure = failed.fatal
            raise failed.__cause__ or failed from None
        self._failure, self._suites[id(runner)] = None, suite
        return suite

    def _setup_databases(self, runner: Any, *args: Any, **options: Any) -> NoReturn:
        suite = self._suites.get(id(runner))
        if suite is None:
            name = type(runner).__qualname__
            self._failure = messages.Fatal(
                "labels", f"{name}.run_tests sets up databases before it has built a suite"
            )
        else:
            self._restore.close()
            self.taken = True
            self._take(runner, suite)
            # A command that goes on after this must not run tests on its own.
            runner.setup_databases = _leave
            type(runner).__init__ = _leave
        raise SystemExit(0)

    def _unwatched(self, *args: Any, **options: Any) -> NoReturn:
        """Nothing may be created here: test databases of this name may be another process's."""
        self._failure = messages.Fatal(
            "settings",
            "the test runner sets up databases, but has never called the __init__ of Django's"
            " DiscoverRunner; let its own call super().__init__()",
        )
        raise SystemExit(1)

    def _exec(self, original: Callable[..., None], program: Any, *rest: Any) -> None:
        if os.getpid() != self._pid:
            original(program, *rest)
        text = (
            f"{self._line} replaces itself by another program, {os.fsdecode(program)};"
            " name the command that runs the tests with --command"
        )
        self._failure = messages.Fatal("command", text)
        raise SystemExit(1)

    def _replace(self, owner: Any, name: str, new: Any) -> None:
        """Until the tests begin; a replacement that somebody else has made meanwhile stays."""
        old = getattr(owner, name)
        setattr(owner, name, new)

        def put_back() -> None:
            if getattr(owner, name) is new:
                setattr(owner, name, old)

        self._restore.callback(put_back)


class _AfterImport(MetaPathFinder):
    """Calls `then` with a module when it has been imported, and leaves no trace in it."""

    def __init__(self, name: str, then: Callable[[Any], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        self.remove()
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Any) -> None:
        def exec_module(module: types.ModuleType) -> None:
            del loader.exec_module
            loader.exec_module(module)
            self._then(module)

        loader.exec_module = exec_module

    def remove(self) -> None:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)


def _execute(command: Sequence[str], arguments: Sequence[str]) -> None:
    first, *rest = command
    sys.orig_argv = [sys.executable, *command, *arguments]
    if first == "-m":
        import runpy

        sys.argv = ["-m", *rest[1:], *arguments]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    sys.argv = [first, *rest, *arguments]
    path = os.path.join(os.getcwd(), first)
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        text = f"{first} cannot be read ({error.strerror}); a file that git ignores does not travel"
        raise LoadFailed(messages.Fatal("command", text)) from error
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        text = f"{first} is no Python script ({headline(error)}); name one with --command"
        raise LoadFailed(messages.Fatal("command", text)) from error
    main = types.ModuleType("__main__")
    vars(main).update(
        __file__=path,
        __cached__=None,
        __builtins__=builtins,
        __loader__=SourceFileLoader("__main__", path),
    )
    sys.modules["__main__"] = main
    exec(code, vars(main))  # nosec - the project's own script, which is what this is for


def _make_sequential(runner: Any) -> None:
    """Tests run one by one, and nobody is asked, whatever the options say."""
    runner.parallel, runner.interactive = 0, False


def _leave(*_: object, **__: object) -> NoReturn:
    os._exit(0)


def _of_settings(error: BaseException) -> bool:
    """Django was importing settings, apps or runner when it happened."""
    tb = error.__traceback__
    while tb is not None:
        if any(place in tb.tb_frame.f_code.co_filename for place in _SETTINGS):
            return True
        tb = tb.tb_next
    return False


def _with_hint(error: BaseException) -> str:
    if type(error).__name__ != "ImproperlyConfigured" or "DJANGO_SETTINGS_MODULE" not in str(error):
        return headline(error)
    return (
        f"{error} (name the module with --settings, DJANGO_SETTINGS_MODULE or [tool.dct] settings)"
    )
