"""The project's own command, executed in the user's process: whatever its script looks like, there
is a suite as in the sequential run, or one reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dct_celery.adapters.process import PipeProcess
from dct_celery.errors import ProcessDied
from dct_celery.wire import messages
from tests.support.fleet import until
from tests.support.loaders import loader
from tests.support.projects import make_project

#: Django's own form.
MANAGE = """
    import os, sys

    def main():
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)

    if __name__ == "__main__":
        main()
"""
#: A test that writes down what it can see of the process that it is in.
SEEN = """
    import inspect, json, os, re, sys, threading, warnings
    from django.test import SimpleTestCase
    import django.test.utils, django.core.management.commands.test as command
    from django.test.runner import DiscoverRunner

    def plain(value):
        return re.sub(" at 0x[0-9a-f]+", "", repr(value))

    class Seen(SimpleTestCase):
        def test_seen(self):
            main = sys.modules["__main__"]
            stack = [frame.filename + ":" + frame.function for frame in inspect.stack()]
            seen = {
                "argv": sys.argv,
                "words": sys.orig_argv[1:],
                "name": main.__name__,
                "file": main.__file__,
                "spec": plain(main.__spec__),
                "package": str(main.__package__),
                "path": [entry for entry in sys.path if entry.startswith(os.getcwd())],
                "folder": os.getcwd(),
                "settings": os.environ["DJANGO_SETTINGS_MODULE"],
                "stack": [each for each in stack if each.startswith(os.getcwd())],
                "finders": [plain(each) for each in sys.meta_path],
                "loader": plain(sys.modules["django.test.runner"].__spec__),
                "patched": [
                    DiscoverRunner.__init__.__module__,
                    command.get_runner.__module__,
                    hasattr(django.test.utils.get_runner, "__wrapped__"),
                    hasattr(os.execv, "func"),
                ],
                "threads": threading.active_count(),
                "started_by": threading.Thread.start.__module__,
                "warnings": [plain(each) for each in warnings.filters],
            }
            with open(os.environ["SEEN"], "w") as file:
                json.dump(seen, file)
"""


def project_with(place: Path, manage: str, tests: str = SEEN, **files: str) -> Path:
    names = {name.replace("_py", ".py"): text for name, text in files.items()}
    return make_project(place / "project", tests, files={"manage.py": manage, **names})


def answer_of(
    project: Path, *command: str, arguments: tuple[str, ...] = (), coverage: bool = False
) -> messages.Message:
    """What a collect process says first."""
    load = messages.Load(
        backend="django", command=command or ("manage.py", "test"), arguments=arguments,
        root=str(project), directory=".", sys_path=[str(project)], collect_only=True,
        coverage=coverage,
    )  # fmt: skip
    with (project / "log").open("wb") as log:
        process = PipeProcess(sys.executable, load, dict(os.environ), log)
    try:
        answer = process.receive(timeout=60)
        assert answer is not None
        return answer
    finally:
        process.kill()
        process.close(1.0)


def fatal_of(project: Path, *command: str, arguments: tuple[str, ...] = ()) -> messages.Fatal:
    answer = answer_of(project, *command, arguments=arguments)
    assert isinstance(answer, messages.Fatal), answer
    return answer


def seen_in_a_fork(
    project: Path, folder: Path, *command: str, arguments: tuple[str, ...]
) -> object:
    variables = {"SEEN": str(folder / "fork.json"), "DCT_TEST_PROCESS": "1"}
    first = os.path.dirname(command[0])
    with loader(
        project, folder / "loader", *arguments, command=command, variables=variables, sys_path=first
    ) as process, process.fork() as fork:  # fmt: skip
        assert isinstance(
            fork.ask(messages.Attach({}, {}), messages.Attached, 60), messages.Attached
        )
        fork.send(messages.RunChunk("c", list(range(process.loaded.count))))
        while not isinstance(answer := fork.receive(30), messages.ChunkFinished):
            assert answer is not None
            assert not isinstance(answer, messages.Fatal), answer
    return json.loads((folder / "fork.json").read_text())


def seen_by_the_command(project: Path, folder: Path, *words: str) -> object:
    out = folder / "stock.json"
    done = subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env={**os.environ, "SEEN": str(out), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (("manage.py", "test"), ()),
        (("manage.py", "test", "--settings=site_settings"), ("-k", "seen", "test_it")),
        (("bin/manage.py", "test", "--pythonpath=."), ("test_it",)),
        (("-m", "django", "test", "--settings=site_settings"), ("test_it.Seen",)),
        (("-m", "cli", "test"), ("--failfast",)),
    ],
    ids=lambda value: " ".join(value) or "-",
)
def test_a_test_sees_the_process_of_the_sequential_run(
    tmp_path: Path, command: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    # Given
    project = project_with(tmp_path, MANAGE, **{"cli/__init___py": "", "cli/__main___py": MANAGE})
    (project / "bin").mkdir()
    (project / "bin" / "manage.py").write_text((project / "manage.py").read_text())
    # When
    stock = seen_by_the_command(project, tmp_path, *command, *arguments)
    fork = seen_in_a_fork(project, tmp_path, *command, arguments=arguments)
    # Then
    assert fork == stock


def test_what_the_script_does_first_is_done_once_and_undone_at_the_end_of_the_loader_only(
    tmp_path: Path,
) -> None:
    # Given a script with a context around Django's command, and something left to do at exit
    manage = """
        import atexit, contextlib, os, sys
        assert "django" not in sys.modules, "Django is imported by the script, not before it"
        with open("log.txt", "a") as log: log.write("begin\\n")

        @contextlib.contextmanager
        def around():
            os.environ["AROUND"] = "1"
            try:
                yield
            finally:
                if os.getpid() == OWN:
                    with open("log.txt", "a") as log: log.write("end\\n")

        OWN = os.getpid()
        os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
        from django.core.management import execute_from_command_line
        with around():
            execute_from_command_line(sys.argv)
    """
    tests = """
        import os
        from django.test import SimpleTestCase

        class Inside(SimpleTestCase):
            def test_inside(self):
                with open("log.txt", "a") as log: log.write(os.environ["AROUND"] + "\\n")
    """
    project = project_with(tmp_path, manage, tests)
    # When two forks run it
    with loader(project, tmp_path / "loader", command=("manage.py", "test")) as process:
        for _ in range(2):
            with process.fork() as fork:
                fork.ask(messages.Attach({}, {}), messages.Attached, 60)
                fork.send(messages.RunChunk("c", [0]))
                while not isinstance(fork.receive(30), messages.ChunkFinished):
                    pass
        assert (project / "log.txt").read_text().split() == ["begin", "1", "1"]
        process.process.close(10)
    # Then
    assert (project / "log.txt").read_text().split() == ["begin", "1", "1", "end"]


def test_what_a_runner_does_around_its_tests_is_there_for_them(tmp_path: Path) -> None:
    # Given
    runners = """
        import os
        from django.test.runner import DiscoverRunner

        class Runner(DiscoverRunner):
            def run_tests(self, *labels, **options):
                os.environ["FROM_RUNNER"] = "1"
                return super().run_tests(*labels, **options)

            def build_suite(self, *labels, **options):
                assert os.environ["FROM_RUNNER"]
                return super().build_suite(*labels, **options)
    """
    tests = """
        import os
        from django.test import SimpleTestCase

        class Inside(SimpleTestCase):
            def test_inside(self):
                self.assertEqual(os.environ["FROM_RUNNER"], "1")
    """
    project = project_with(tmp_path, MANAGE, tests, runners_py=runners)
    command = ("manage.py", "test", "--testrunner=runners.Runner")
    with loader(project, tmp_path / "loader", command=command) as process, process.fork() as fork:
        fork.ask(messages.Attach({}, {}), messages.Attached, 60)
        # When
        fork.send(messages.RunChunk("c", [0]))
        while not isinstance(record := fork.receive(30), messages.TestFinished):
            assert record is not None
    # Then
    assert (record.outcome, record.failures) == ("passed", ())
    assert process.loaded.not_honoured == []
    assert process.loaded.rerun == ("python", *command)


def test_coverage_that_the_command_measures_is_named(tmp_path: Path) -> None:
    # Given
    manage = """
        import os, sys
        import coverage
        os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
        from django.core.management import execute_from_command_line
        measured = coverage.Coverage()
        measured.start()
        execute_from_command_line(sys.argv)
        measured.stop()
        measured.save()
    """
    project = project_with(tmp_path, manage)
    # When
    with loader(project, tmp_path / "loader", command=("manage.py", "test")) as process:
        (clause,) = process.loaded.not_honoured
    # Then
    assert clause.startswith("the project's command measures coverage, but a distributed run")


@pytest.mark.parametrize(
    "manage",
    [
        pytest.param(
            MANAGE.replace(
                "execute_from_command_line(sys.argv)",
                "[execute_from_command_line(each) for each in (['', 'check'], sys.argv)]",
            ),
            id="another command first",
        ),
        pytest.param(
            """
                import os, sys
                own = sys.argv.index("--site=a")
                os.environ["SITE"] = sys.argv.pop(own)
                os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
                from django.core.management import execute_from_command_line
                execute_from_command_line(sys.argv)
            """,
            id="options of its own",
        ),
        pytest.param(
            """
                import sys
                import django
                from django.conf import settings
                import site_settings
                settings.configure(INSTALLED_APPS=["shelf"], DATABASES=site_settings.DATABASES)
                django.setup()
                from django.test.utils import get_runner
                sys.exit(bool(get_runner(settings)(verbosity=2).run_tests(["test_it"])))
            """,
            id="no manage.py at all",
        ),
        pytest.param(
            """
                import os, sys
                os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
                from django.core.management import call_command
                import django
                django.setup()
                try:
                    call_command("test", parallel=4, interactive=True)
                except SystemExit as error:
                    sys.exit(error.code)
            """,
            id="call_command",
        ),
    ],
)  # fmt: skip
def test_a_script_of_another_form_comes_to_the_same_suite(tmp_path: Path, manage: str) -> None:
    # Given
    project = project_with(tmp_path, manage)
    # When
    loaded = answer_of(project, "manage.py", "test", "--site=a" if "--site" in manage else "-v1")
    # Then
    assert isinstance(loaded, messages.Loaded), loaded
    assert loaded.count == 1


@pytest.mark.parametrize(
    ("manage", "message"),
    [
        ("import sys; print('no'); sys.exit(3)", "{} ended with exit status 3 {}: no"),
        ("raise SystemExit('not today\\nreally')", "{} ended with exit status 1 {}: not today"),
        ("import sys; sys.exit()", "{} ended {}; name the command that runs them in its own "),
        ("import sys; print('OK'); sys.exit(0)", "{} ended {}, saying 'OK'; name the command that"),
        ("pass", "{} ended {}; name the command that runs them in its own process with"),
        ("import no_such_module", "{} failed {}: ModuleNotFoundError: No module named 'no_such_"),
        ("import os; os.execvp('echo', ['echo'])", "{} replaces itself by another program, "),
        ("#!/bin/sh\nexec echo $*", "manage.py is no Python script (SyntaxError: "),
        ("input('sure? ')", "{} failed {}: EOFError: "),
    ],
)
def test_a_script_that_comes_to_no_test_is_one_reason(
    tmp_path: Path, manage: str, message: str
) -> None:
    # When
    fatal = fatal_of(project_with(tmp_path, manage))
    # Then
    text = message.format("python manage.py test", "before it came to its tests")
    assert fatal.reason == "command"
    assert fatal.message.startswith(text)
    assert "\n" not in fatal.message
    assert "dct_celery/testproc" not in fatal.detail


def test_a_script_that_did_not_travel_is_one_reason(tmp_path: Path) -> None:
    # When
    fatal = fatal_of(project_with(tmp_path, MANAGE), "bin/manage.py", "test")
    # Then
    assert fatal.message.startswith("bin/manage.py cannot be read (No such file or directory)")


@pytest.mark.parametrize(
    ("arguments", "reason", "message"),
    [
        (("--no-such",), "command", "error: unrecognized arguments: --no-such"),
        (("--testrunner=a.b",), "settings", "ModuleNotFoundError: No module named 'a'"),
        (("--testrunner=runners.Other",), "settings", "runners.Other is not based on Django's"),
        (("--testrunner=runners.Bare",), "settings", "let its own call super().__init__()"),
        (("--settings=nowhere",), "settings", "ModuleNotFoundError: No module named 'nowhere'"),
        (("test_it.py",), "labels", "'test_it.py'"),
    ],
)
def test_what_django_refuses_is_said_in_its_words(
    tmp_path: Path, arguments: tuple[str, ...], reason: str, message: str
) -> None:
    # Given
    other = """
        from django.test.runner import DiscoverRunner, NullTimeKeeper

        class Other:
            def __init__(self, **options): ...
            def run_tests(self, *labels): ...

        class Bare(DiscoverRunner):
            logger, verbosity, interactive, time_keeper = None, 1, False, NullTimeKeeper()
            parallel = keepdb = debug_sql = debug_mode = False
            def __init__(self, **options): ...
            def build_suite(self, labels): return self.test_suite()
    """
    project = project_with(tmp_path, MANAGE, runners_py=other)
    # When
    fatal = fatal_of(project, arguments=arguments)
    # Then
    assert (fatal.reason, message in fatal.message) == (reason, True), fatal.message
    assert "\n" not in fatal.message


def test_a_command_that_goes_on_after_the_loader_runs_no_test_by_itself(tmp_path: Path) -> None:
    # Given a script that takes every end for a failure, and tries again
    manage = """
        import os, sys
        os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
        from django.core.management import execute_from_command_line
        for _ in range(3):
            try:
                execute_from_command_line(sys.argv)
            except BaseException:
                pass
        with open("done.txt", "w"): pass
    """
    tests = """
        from django.test import SimpleTestCase

        class Never(SimpleTestCase):
            def test_never(self):
                with open("ran.txt", "w"): pass
    """
    project = project_with(tmp_path, manage, tests)
    # When
    with loader(project, tmp_path / "loader", command=("manage.py", "test")) as process:
        process.process.close(10)
        until(lambda: not process.process.alive(), 10)
    # Then
    assert not (project / "ran.txt").exists()
    assert not (project / "done.txt").exists()


def test_the_death_of_a_script_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProcessDied, match="exit status 7"):
        answer_of(project_with(tmp_path, "import os; os._exit(7)"))
