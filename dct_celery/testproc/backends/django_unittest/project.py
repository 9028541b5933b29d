"""The user's project, loaded the way `manage.py test` loads it: settings, runner, test environment, suite."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import unittest
from collections.abc import Iterator
from typing import Any

import dct_celery
from dct_celery.errors import CollectionError, ConfigError
from dct_celery.wire import messages

#: Runner methods that drive a whole sequential run; ours is driven chunk by chunk instead.
_DRIVERS = ("run_tests", "run_suite", "suite_result")


class LoadFailed(Exception):
    """The suite could not be built; carries the Fatal to send."""

    def __init__(self, fatal: messages.Fatal) -> None:
        super().__init__(fatal.message)
        self.fatal = fatal


class Project:
    """Runner and suite of the project. `tests` is the flattened suite in canonical order."""

    def __init__(self, runner: Any, options: dict[str, Any], suite: Any, root: str) -> None:
        from django.test.utils import iter_test_cases  # type: ignore[attr-defined]

        self.runner = runner
        #: Folder of the tree that the project is part of.
        self.root = root
        self.options = options
        self.tests: list[unittest.TestCase] = list(iter_test_cases(suite))
        #: alias -> must its contents be serialized; of the whole selection, never of a chunk.
        self.databases: dict[str, bool] = runner.get_databases(suite)

    @property
    def serialized_aliases(self) -> set[str]:
        return {alias for alias, serialize in self.databases.items() if serialize}

    def not_honoured(self) -> list[str]:
        """Overridden runner methods that never run here, as "Class.method"."""
        from django.test.runner import DiscoverRunner

        cls = type(self.runner)
        return [
            f"{cls.__qualname__}.{name}" for name in _DRIVERS if getattr(cls, name, None) is not getattr(DiscoverRunner, name)
        ]


def prepare_process(load: messages.Load) -> None:
    """Working directory, sys.path and settings variable, as a `manage.py` in that directory would have them."""
    os.chdir(os.path.join(load.root, load.directory))
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    sys.path[:0] = [entry for entry in load.sys_path if entry not in sys.path]
    if load.settings:
        os.environ["DJANGO_SETTINGS_MODULE"] = load.settings


def load_project(load: messages.Load) -> Project:
    """Imports settings and the whole selection. Raises LoadFailed with the reason that the user should read."""
    with _failing_as("settings"):
        options = _parse(load.argv)
    with _failing_as("settings"):
        runner = _make_runner(options)
        runner.setup_test_environment()
    with _failing_as("labels"):
        suite = runner.build_suite(options["args"])
    return Project(runner, options, suite, load.root)


def _parse(argv: list[str]) -> dict[str, Any]:
    """What Django's own `test` command makes of the words, extra arguments of a custom runner included."""
    import django
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import ManagementUtility
    from django.core.management.base import CommandError
    from django.core.management.utils import get_command_line_option

    try:
        settings.INSTALLED_APPS  # noqa: B018 - the access imports the settings module
    except ImproperlyConfigured as error:
        raise ConfigError(
            f"{error} (name the module with --settings, DJANGO_SETTINGS_MODULE or [tool.dct] settings)"
            if "DJANGO_SETTINGS_MODULE" in str(error)
            else str(error)
        ) from None
    django.setup()
    command = ManagementUtility(["manage.py", "test"]).fetch_command("test")
    words = ["manage.py", "test", *argv]
    command.test_runner = get_command_line_option(words, "--testrunner")  # type: ignore[attr-defined]
    parser = command.create_parser("manage.py", "test")
    try:
        return vars(parser.parse_args(argv))
    except CommandError as error:
        raise ConfigError(f"the test command of this project does not take these options: {error}") from None


def _make_runner(options: dict[str, Any]) -> Any:
    """The runner as the test command's `handle` makes it, sequential whatever the options say."""
    from django.conf import settings
    from django.test.utils import NullTimeKeeper, get_runner  # type: ignore[attr-defined]

    cls = get_runner(settings, options["testrunner"])
    given = {name: value for name, value in options.items() if name != "args"}
    runner = cls(**{**given, "parallel": 0, "interactive": False})
    if not hasattr(runner, "time_keeper"):
        runner.time_keeper = NullTimeKeeper()
    return runner


@contextlib.contextmanager
def _failing_as(reason: str) -> Iterator[None]:
    """Turns whatever the project raises into a LoadFailed with one line and the traceback below it."""
    try:
        yield
    except LoadFailed:
        raise
    except (ConfigError, CollectionError) as error:
        raise LoadFailed(messages.Fatal(reason, str(error))) from error
    except (Exception, SystemExit) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        name = type(error).__name__
        raise LoadFailed(messages.Fatal(reason, f"{name}: {line}" if line else name, _project_trace(error))) from error


def _project_trace(error: BaseException) -> str:
    """The traceback without our own frames at its beginning: the fault is the project's."""
    ours = os.path.dirname(dct_celery.__file__) + os.sep
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(ours):
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(error), error, tb))
