"""Claims about `backends.django_unittest.command`: where a project's command is taken over, and why
one ended that never came there.

In the process of a test: scripts that import no Django, and a module of runners of our own.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django.test.utils
import pytest
from django.conf import settings

from dct_celery.testproc.backends.base import LoadFailed
from dct_celery.testproc.backends.django_unittest import command
from dct_celery.testproc.backends.django_unittest.command import _AfterImport, _Execution
from dct_celery.wire import messages

BEFORE = "before it came to its tests"
NAME_IT = "name the command that runs them in its own process with --command"


@pytest.fixture(autouse=True)
def _own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a command changes in its process is put back."""
    monkeypatch.chdir(tmp_path)
    for name in ("argv", "orig_argv", "meta_path"):
        monkeypatch.setattr(sys, name, list(getattr(sys, name)))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    execv, execve = os.execv, os.execve
    yield
    os.execv, os.execve = execv, execve


def fatal_of(script: str, *arguments: str) -> messages.Fatal:
    Path("run.py").write_text(script)
    with pytest.raises(LoadFailed) as caught:
        command.run(("run.py", "test"), arguments, lambda *_: pytest.fail("nothing to take"))
    return caught.value.fatal


class Runner:
    """As much of Django's DiscoverRunner as counts here."""

    def __init__(self, **options: object) -> None:
        self.parallel, self.interactive = 4, True

    def build_suite(self, labels: list[str]) -> list[str]:
        if "broken" in labels:
            raise ValueError("no such label")
        return [*labels, str(self.parallel)]

    def setup_databases(self) -> str:
        return "created"

    def run_tests(self, labels: list[str]) -> str:
        self.build_suite(labels)
        return self.setup_databases()


class Eager(Runner):
    def run_tests(self, labels: list[str]) -> str:
        return self.setup_databases()


@pytest.fixture
def watched() -> Iterator[Callable[..., _Execution]]:
    """An execution that watches the runners of this module."""
    init, find = Runner.__init__, django.test.utils.get_runner
    create = django.test.utils.setup_databases

    def make(take: Any = lambda runner, suite: None) -> _Execution:
        execution = _Execution(("manage.py", "test"), take)
        module = SimpleNamespace(DiscoverRunner=Runner, _setup_databases=create)
        execution._watch_runners(module)
        return execution

    yield make
    Runner.__init__ = init  # type: ignore[method-assign]
    django.test.utils.get_runner, django.test.utils.setup_databases = find, create


# -- the script ------------------------------------------------------------------------


def test_a_script_is_the_main_module_with_the_arguments_of_the_command() -> None:
    # Given
    script = (
        "import json, pathlib, sys\n"
        "own = 'json' in vars(sys.modules['__main__'])\n"
        "seen = [__name__, __file__, sys.argv, sys.orig_argv[1:], own]\n"
        "pathlib.Path('seen.json').write_text(json.dumps(seen))\n"
    )
    # When
    fatal_of(script, "-k", "x")
    # Then
    words = ["run.py", "test", "-k", "x"]
    assert json.loads(Path("seen.json").read_text()) == [
        "__main__",
        str(Path("run.py").resolve()),
        words,
        words,
        True,
    ]


def test_a_module_is_run_like_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    Path("own_cli.py").write_text("import sys; sys.exit(f'{__name__} {sys.argv[1:]}')")
    monkeypatch.syspath_prepend(os.getcwd())
    # When
    with pytest.raises(LoadFailed) as caught:
        command.run(("-m", "own_cli", "test"), ("a",), lambda *_: None)
    # Then
    assert caught.value.fatal.message == (
        f"python -m own_cli test ended with exit status 1 {BEFORE}: __main__ ['test', 'a']"
    )


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import sys; sys.exit(3)", f"ended with exit status 3 {BEFORE}"),
        ("raise SystemExit('no\\nreally')", f"ended with exit status 1 {BEFORE}: no"),
        ("raise SystemExit", f"ended {BEFORE}; {NAME_IT}"),
        ("pass", f"ended {BEFORE}; {NAME_IT}"),
        ("1 / 0", f"failed {BEFORE}: ZeroDivisionError: division by zero"),
        (
            "import os; os.execv('/bin/true', ['true'])",
            "replaces itself by another program, /bin/true; name the command that runs the tests"
            " with --command",
        ),
        (
            "class CommandError(Exception): pass\n"
            "try:\n    raise CommandError('unknown\\nmore')\n"
            "except CommandError:\n    raise SystemExit(1)",
            f"ended with exit status 1 {BEFORE}: unknown",
        ),
    ],
)
def test_a_script_that_comes_to_no_test_is_one_line(script: str, message: str) -> None:
    # When
    fatal = fatal_of(script)
    # Then
    assert (fatal.reason, fatal.message) == ("command", f"python run.py test {message}")


@pytest.mark.parametrize("script", ["def broken(:", "\udcff"])
def test_what_is_no_script_is_named(script: str) -> None:
    # Given
    Path("run.py").write_bytes(script.encode("utf-8", "surrogateescape"))
    # When
    with pytest.raises(LoadFailed) as caught:
        command.run(("run.py",), (), lambda *_: None)
    # Then
    assert caught.value.fatal.message.startswith("run.py is no Python script (SyntaxError: ")


def test_a_script_that_is_not_there_may_be_ignored_by_git() -> None:
    with pytest.raises(LoadFailed, match="a file that git ignores does not travel"):
        command.run(("nowhere.py",), (), lambda *_: None)


def test_what_is_watched_is_put_back_whatever_the_end() -> None:
    # Given
    before = (os.execv, os.execve, list(sys.meta_path))
    # When
    fatal_of("pass")
    # Then
    assert (os.execv, os.execve, sys.meta_path) == before


def test_a_child_of_the_script_may_become_another_program() -> None:
    # Given
    script = (
        "import os\n"
        "pid = os.fork()\n"
        "if not pid: os.execv('/bin/true', ['true'])\n"
        "raise SystemExit(f'status {os.waitpid(pid, 0)[1]}')\n"
    )
    # Then
    assert fatal_of(script).message.endswith(": status 0")


def test_the_error_of_settings_is_told_from_the_scripts(tmp_path: Path) -> None:
    # Given code that looks like Django's where it imports settings
    folder = tmp_path / "django" / "conf"
    folder.mkdir(parents=True)
    (folder / "own.py").write_text("def setup(): raise KeyError('REGION')")
    script = f"import runpy\nrunpy.run_path({str(folder / 'own.py')!r})['setup']()"
    # When
    fatal = fatal_of(script)
    # Then
    assert (fatal.reason, fatal.message) == ("settings", "KeyError: 'REGION'")


# -- the runner ------------------------------------------------------------------------


def test_the_suite_is_taken_where_databases_would_be_set_up(
    watched: Callable[..., _Execution],
) -> None:
    # Given
    taken: list[Any] = []

    def take(runner: Runner, suite: list[str]) -> None:
        taken.extend((runner, suite, runner.setup_databases(), Runner().setup_databases()))

    execution = watched(take)
    runner = Runner(verbosity=1)
    # When
    with pytest.raises(SystemExit):
        runner.run_tests(["a", "b"])
    # Then it is sequential, and nothing of ours is left on it or on new ones
    assert taken == [runner, ["a", "b", "0"], "created", "created"]
    assert not runner.interactive
    assert execution.taken
    assert Runner.setup_databases is not command._leave


def test_a_suite_that_cannot_be_built_is_the_labels_fault(
    watched: Callable[..., _Execution],
) -> None:
    # Given
    execution = watched()
    # When: the error is the project's to see
    with pytest.raises(ValueError, match="no such label"):
        Runner().run_tests(["broken"])
    # Then
    fatal = execution.explained(SystemExit(1))
    assert (fatal.reason, fatal.message) == ("labels", "ValueError: no such label")
    assert "dct_celery/testproc" not in fatal.detail


def test_a_runner_that_sets_up_databases_first_is_named(
    watched: Callable[..., _Execution],
) -> None:
    # Given
    execution = watched()
    # When
    with pytest.raises(SystemExit):
        Eager().run_tests([])
    # Then
    assert execution.explained(None).message == (
        "Eager.run_tests sets up databases before it has built a suite"
    )


def test_a_runner_that_was_never_initialised_creates_nothing(
    watched: Callable[..., _Execution],
) -> None:
    # Given
    execution = watched()
    # When
    with pytest.raises(SystemExit):
        django.test.utils.setup_databases(1, False)
    # Then
    assert "let its own call super().__init__()" in execution.explained(None).message


def test_a_runner_of_another_kind_is_named(
    watched: Callable[..., _Execution], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(django.test.utils, "get_runner", lambda *_: dict)
    execution = watched()
    # When
    with pytest.raises(SystemExit):
        django.test.utils.get_runner(settings)
    # Then
    fatal = execution.explained(SystemExit(1))
    assert fatal.reason == "settings"
    assert fatal.message.startswith("the test runner builtins.dict is not based on Django's")


def test_runners_are_watched_as_soon_as_they_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    (tmp_path / "own_runners.py").write_text("class DiscoverRunner: pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[types.ModuleType] = []
    finder = _AfterImport("own_runners", seen.append)
    sys.meta_path.insert(0, finder)
    # When
    module = importlib.import_module("own_runners")
    # Then the finder is gone, and the module's loader is as it was
    assert seen == [module]
    assert module.DiscoverRunner
    assert finder not in sys.meta_path
    assert "exec_module" not in vars(module.__spec__.loader)  # type: ignore[union-attr]
    del sys.modules["own_runners"]


def test_a_module_that_is_nowhere_is_not_found_by_us_either() -> None:
    # Given
    finder = _AfterImport("own_nowhere", lambda module: None)
    sys.meta_path.insert(0, finder)
    # Then
    assert finder.find_spec("something_else") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("own_nowhere")
