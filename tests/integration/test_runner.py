"""`manage.py test` with our runner, on the sample project and one slot of this machine."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dct_celery.errors import ConfigError
from dct_celery.runner import ConcurrentTestRunner, command_line
from dct_celery.runner.command_line import consumed

SAMPLE = Path(__file__).parents[1] / "sample_project"
RUNNER = "dct_celery.runner.ConcurrentTestRunner"
QUICK = "catalogue.tests.test_isbn"


def manage(
    *arguments: str, cwd: Path = SAMPLE, script: str = "manage.py", **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python manage.py test WORDS`, without colours."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", **variables}
    return subprocess.run(
        [sys.executable, script, "test", *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def with_test_runner(tmp_path: Path) -> Path:
    """A project whose settings name the runner, with one test that reports where it runs."""
    (tmp_path / "manage.py").write_text(
        (SAMPLE / "manage.py").read_text().replace("bookshop.settings", "own_settings")
    )
    (tmp_path / "own_settings.py").write_text(f"SECRET_KEY = 'x'\nTEST_RUNNER = '{RUNNER}'\n")
    (tmp_path / "tests.py").write_text(
        "import os\n"
        "from django.test import SimpleTestCase\n\n\n"
        "class Where(SimpleTestCase):\n"
        "    def test_process(self):\n"
        "        self.assertEqual(os.environ.get('DCT_TEST_PROCESS'), '1')\n\n"
        "    def test_false(self):\n"
        "        self.fail('on purpose')\n"
    )
    return tmp_path


def test_testrunner_on_the_command_line_runs_on_slots_and_writes_junit(tmp_path: Path) -> None:
    # Given
    report = tmp_path / "junit.xml"
    # When
    done = manage("--testrunner", RUNNER, "--local", "1", "--junitxml", str(report), QUICK)
    # Then
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 1 slot (1 worker)" in done.stdout
    assert len(list(ElementTree.parse(report).iter("testcase"))) == 15


def test_test_runner_in_the_settings_exits_1_for_a_failure(with_test_runner: Path) -> None:
    # Given: one test of two fails
    # When
    done = manage("--local", "1", "--pattern", "tests.py", cwd=with_test_runner)
    # Then
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED (failures=1)" in done.stdout
    assert "Ran 2 tests" in done.stdout


def test_options_of_the_test_command_select_the_same_tests(with_test_runner: Path) -> None:
    # Given
    arguments = (
        "-v",
        "2",
        "-k",
        "process",
        "--shuffle",
        "7",
        "--reverse",
        "--failfast",
        "--debug-mode",
        "--no-faulthandler",
    )
    # When
    done = manage(*arguments, "--local", "1", "tests.Where", cwd=with_test_runner)
    # Then
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 1 test" in done.stdout


def test_manage_py_of_another_folder_is_found(with_test_runner: Path) -> None:
    # Given
    shop = with_test_runner / "shop"
    shop.mkdir()
    for name in ("manage.py", "own_settings.py", "tests.py"):
        (with_test_runner / name).rename(shop / name)
    # When
    done = manage(
        "--local", "1", "tests.Where.test_process", cwd=with_test_runner, script="shop/manage.py"
    )
    # Then
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_script_with_options_of_its_own_runs_again_where_the_tests_are(
    with_test_runner: Path,
) -> None:
    # Given a manage.py that takes an option from the command line, and reads a file
    (with_test_runner / "region.env").write_text("north")
    (with_test_runner / "manage.py").write_text(
        "import os, sys, argparse\n"
        "parser = argparse.ArgumentParser(add_help=False)\n"
        "parser.add_argument('--site', required=True)\n"
        "own, words = parser.parse_known_args()\n"
        "sys.argv = [sys.argv[0], *words]\n"
        "assert 'REGION' not in os.environ\n"
        "os.environ['REGION'] = open('region.env').read()\n"
        "os.environ['SITE'] = own.site\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'own_settings')\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    (with_test_runner / "tests.py").write_text(
        "import os, sys\n"
        "from django.test import SimpleTestCase\n\n\n"
        "class Told(SimpleTestCase):\n"
        "    def test_told(self):\n"
        "        self.assertEqual(os.environ['SITE'] + os.environ['REGION'], 'shopnorth')\n"
        "        self.assertEqual(sys.argv, ['manage.py', 'test', 'tests.Told'])\n"
    )
    # When
    done = manage("--site", "shop", "--local", "1", "tests.Told", cwd=with_test_runner)
    # Then
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 1 test" in done.stdout


def test_coverage_of_a_process_that_runs_no_test_is_refused_with_the_alternative(
    with_test_runner: Path,
) -> None:
    # When
    done = subprocess.run(
        [sys.executable, "-m", "coverage", "run", "manage.py", "test", "--local", "1"],
        cwd=with_test_runner,
        env={**os.environ, "COVERAGE_FILE": str(with_test_runner / ".coverage")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Then
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert "--testrunner django.test.runner.DiscoverRunner" in line


def test_a_label_that_selects_nothing_exits_with_dcts_code() -> None:
    # Given
    arguments = ("--testrunner", RUNNER, "--local", "1", QUICK)
    # When
    done = manage(*arguments, "-k", "no_such_test")
    # Then
    assert done.returncode == 5, done.stdout + done.stderr


def test_in_a_test_process_it_is_djangos_own_runner() -> None:
    # Given
    arguments = (
        "--testrunner",
        RUNNER,
        "--local",
        "1",
        "--pool",
        "nowhere",
        "--parallel",
        "1",
        QUICK,
    )
    # When
    done = manage(*arguments, DCT_TEST_PROCESS="1")
    # Then
    assert done.returncode == 0, done.stderr
    assert "slot" not in done.stdout + done.stderr
    assert "Ran 15 tests" in done.stderr


def test_a_signal_to_manage_py_alone_ends_the_run_with_2(with_test_runner: Path) -> None:
    # Given: a run in the middle of a test, in a session of its own, as CI systems start one
    (with_test_runner / "tests.py").write_text(
        "import pathlib, time\nfrom django.test import SimpleTestCase\n\n\nclass"
        " Long(SimpleTestCase):\n    def test_long(self):\n       "
        f" pathlib.Path({str(with_test_runner / 'started')!r}).touch()\n        time.sleep(60)\n"
    )
    argv = [sys.executable, "manage.py", "test", "--local", "1", "tests.Long"]
    with subprocess.Popen(
        argv,
        cwd=with_test_runner,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as run:
        while run.poll() is None and not (with_test_runner / "started").exists():
            time.sleep(0.05)
        # When
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=60)
    # Then
    assert run.returncode == 2, output.decode()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--pdb",), "django.test.runner.DiscoverRunner --pdb"),
    ],
)
def test_an_option_that_slots_cannot_honour_is_one_line_and_exit_4(
    arguments: tuple[str, ...], line: str
) -> None:
    # Given / When
    done = manage("--testrunner", RUNNER, *arguments, QUICK)
    # Then
    assert done.returncode == 4
    assert done.stderr.startswith("CommandError: ")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


class OwnRunner(ConcurrentTestRunner):
    """A project's subclass, which keeps its options to itself."""

    def __init__(self, *, shard: str | None = None, dry: bool = False, **options: Any) -> None:
        super().__init__(**options)

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--shard")
        parser.add_argument("--dry", action="store_true")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", ""),
        ("a.b c", "-- a.b c"),
        (
            "-v 2 -p check_*.py -t top",
            "--top-level-directory=top --pattern=check_*.py --verbosity=2",
        ),
        ("-v 0", "--verbosity=0"),
        ("--failfast -r -b -d --timing", "--failfast --reverse --buffer --debug-sql --timing"),
        ("-k x -k-y --tag fast --exclude-tag slow", "-k x -k -y --tag fast --exclude-tag slow"),
        ("--shuffle", "--shuffle=auto"),
        ("--shuffle 0", "--shuffle=0"),
        ("--local --pool ci", "--pool=ci --local=auto"),
        ("--local 0 --json r.json --junitxml j.xml", "--junit-xml=j.xml --json=r.json --local=0"),
        (
            "--store redis://s --broker amqp://b --test-timeout 5",
            "--broker=amqp://b --store=redis://s --test-timeout=5",
        ),
        ("--debug-mode --no-faulthandler", "--extra=--debug-mode --extra=--no-faulthandler"),
        ("--shard 2 --dry a", "--extra=--shard=2 --extra=--dry -- a"),
        ("--keepdb --noinput", "--keepdb"),
        ("--parallel 3", "--parallel=3"),
        ("-x -n 3 --runner a.B", "--testrunner=a.B --parallel=3 --failfast"),
        ("--junit-xml j.xml", "--junit-xml=j.xml"),
        ("--junit-xml j.xml --junitxml j.xml", "--junit-xml=j.xml"),
        ("--fallback none --timeout 9", "--fallback=none --timeout=9"),
        ("--settings shop.ci", "--settings=shop.ci"),
    ],
)
def test_every_option_of_the_test_command_has_its_argument(
    arguments: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: what Django's test command makes of the arguments
    monkeypatch.setattr(command_line, "_command", lambda: ["--command=a.py test"])
    parser = argparse.ArgumentParser()
    parser.add_argument("labels", nargs="*")
    parser.add_argument("-v", "--verbosity", type=int, default=1)
    parser.add_argument("--noinput", action="store_false", dest="interactive")
    parser.add_argument("--settings")
    parser.add_argument("--no-color", action="store_true")
    OwnRunner.add_arguments(parser)
    options = vars(parser.parse_args(arguments.split()))
    labels = options.pop("labels")
    # When
    given = command_line.one_spelling(OwnRunner(**options).given)
    argv = command_line.command_line(OwnRunner, given, labels)
    # Then
    assert argv == ["run", "--backend=django", "--command=a.py test", *expected.split()]


@pytest.mark.parametrize(
    ("named", "parallel", "most"), [("3", 3, "3"), ("x", 0, None), (None, 3, None)]
)
def test_the_variable_of_django_says_how_many_auto_are(
    named: str | None, parallel: int, most: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: `manage.py test --parallel`, and without it
    monkeypatch.setattr("sys.argv", ["manage.py", "test", *["--parallel"] * bool(parallel)])
    monkeypatch.setattr(command_line, "get_max_test_processes", lambda: int(named or "3"))
    monkeypatch.delenv("DJANGO_TEST_PROCESSES", raising=False)
    if named:
        monkeypatch.setenv("DJANGO_TEST_PROCESSES", named)
    # Then
    assert command_line.one_spelling({"parallel": parallel})["parallel"] == most


def test_a_label_behind_benchmark_is_no_file_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr("sys.argv", ["manage.py", "test", "--benchmark", "shop.tests"])
    # Then
    with pytest.raises(ConfigError, match=r"^--benchmark shop\.tests: a path that follows ends in"):
        command_line.one_spelling({"benchmark": "shop.tests"})
    for words in (["--benchmark=shop.txt"], ["--benchmark", "b.json"], ["shop", "--benchmark"]):
        monkeypatch.setattr("sys.argv", ["manage.py", "test", *words])
        given = {"--benchmark=shop.txt": "shop.txt", "--benchmark": "b.json"}.get(words[0], "auto")
        assert command_line.one_spelling({"benchmark": given})["benchmark"] == given


def test_an_option_of_dct_that_code_gives_in_vain_is_refused_with_its_other_places() -> None:
    # Given a subclass with an option of the same name as one of ours
    class WithOwnPython(OwnRunner):
        @classmethod
        def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
            super().add_arguments(parser)
            parser.add_argument("--python")

    # When
    for given in ({"maxfail": 2}, {"log_file": "x.log"}, {"env": ["A"]}, {"python": "p"}):
        with pytest.raises(ConfigError, match="does not take it as an argument; set DCT_"):
            command_line._refuse_others(OwnRunner, given)
    # Then
    command_line._refuse_others(WithOwnPython, {"python": "p", "tags": ["a"], "maxfail": None})
    command_line._refuse_others(OwnRunner, {"env": "ci", "no_color": False})


@pytest.mark.parametrize(
    ("started", "left", "before", "behind"),
    [
        ("python manage.py test a", "manage.py test a", "", ""),
        ("python -W error manage.py test -k a", "manage.py test -k a", "", ""),
        ("python manage.py --env ci test a", "manage.py test a", "--env ci", ""),
        ("python manage.py test --env ci a -k b", "manage.py test a -k b", "", "--env ci"),
        ("python -m django test a", "/x/django/__main__.py test a", "", ""),
        ("/bin/python ./manage.py --x test", "./manage.py test", "--x", ""),
        ("python runtests.py", "runtests.py", "", ""),
        ("python manage.py check", "manage.py test", "", ""),
    ],
)
def test_words_that_a_script_took_for_itself_are_found(
    started: str, left: str, before: str, behind: str
) -> None:
    found = consumed(started.split(), left.split())
    assert found == (before.split(), behind.split())


def test_importing_the_runner_loads_no_celery() -> None:
    # Given
    script = (
        "import sys, dct_celery.runner; print(*(set(sys.modules) & {'celery', 'kombu', 'redis',"
        " 'click'}))"
    )
    # When
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    # Then
    assert done.stdout == "\n"


def test_a_refused_command_replaces_the_report_of_an_earlier_one(tmp_path: Path) -> None:
    # Given
    report = tmp_path / "junit.xml"
    report.write_text("<testsuites/>")
    # When
    done = manage("--testrunner", RUNNER, "--pdb", "--junitxml", str(report))
    # Then
    assert done.returncode == 4, done.stdout + done.stderr
    (error,) = ElementTree.parse(report).iter("error")
    assert "--pdb cannot work on slots" in error.get("message", "")


# -- without configuration ----------------------------------------------------------------


def test_without_a_store_the_tests_run_on_this_machine_and_a_line_says_so(
    with_test_runner: Path,
) -> None:
    # When
    done = manage("--parallel", "1", "tests.Where.test_process", cwd=with_test_runner)
    # Then
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "dct: no store is configured, so the tests run on this machine alone; for a fleet set"
        " DCT_STORE, --store or [tool.dct] store"
    ) in done.stderr.splitlines()
    assert "Ran 1 test" in done.stdout


def settings_file(folder: Path, text: str) -> None:
    with (folder / "own_settings.py").open("a") as file:
        file.write(text)


def test_what_the_django_settings_say_counts_unless_something_else_does(
    with_test_runner: Path,
) -> None:
    # Given
    settings_file(
        with_test_runner,
        "CONCURRENT_TEST_CONFIG = {'WORKERS': 1, 'JUNIT_XML': 'j.xml', 'WORKER_TIMEOUT': 120}\n"
        "CONCURRENT_TEST_LOGGING = {'FORMAT': 'JSON', 'FILE': 'dct.log'}\n",
    )
    # When
    done = manage("--json", "r.json", "tests.Where.test_process", cwd=with_test_runner)
    # Then
    assert done.returncode == 0, done.stdout + done.stderr
    assert (with_test_runner / "j.xml").is_file()
    assert (with_test_runner / "r.json").is_file()
    lines = (with_test_runner / "dct.log").read_text().splitlines()
    log = [json.loads(line) for line in lines if line.startswith("{")]
    (claimed,) = [line for line in log if line["message"].endswith("of 1 tests, attempt 1")]
    assert (claimed["logger"], claimed["chunk"]) == ("dct_celery.worker.slot.slot", "c1")
    first, second = [line for line in done.stderr.splitlines() if line.startswith("dct: ")]
    assert first.startswith("dct: note: CONCURRENT_TEST_CONFIG['WORKER_TIMEOUT'] has no effect")
    assert "on this machine alone" in second
    assert "on 1 slot (1 worker)" in done.stdout


@pytest.mark.parametrize(
    ("table", "arguments", "line"),
    [
        (
            "{'WORKRS': 4}",
            (),
            "CONCURRENT_TEST_CONFIG['WORKRS']: unknown setting; did you mean 'WORKERS'?",
        ),
        (
            "{'TIMEOUT': 'soon'}",
            (),
            "CONCURRENT_TEST_CONFIG['TIMEOUT']: 'soon' is not valid; give a number of seconds, at"
            " least 0.1",
        ),
        (
            "{'WORKERS': 4, 'PARALLEL': 2}",
            (),
            "CONCURRENT_TEST_CONFIG['WORKERS'] and CONCURRENT_TEST_CONFIG['PARALLEL'] mean the same"
            " setting and differ; remove one",
        ),
        (
            "4",
            (),
            "CONCURRENT_TEST_CONFIG in the Django settings is no dict; write CONCURRENT_TEST_CONFIG"
            " = {'PARALLEL': 4}",
        ),
        ("{}", ("-n", "2", "--parallel", "3"), "--parallel 3 and -n 2 mean the same and differ;"),
        ("{}", ("--parallel", "0"), "--parallel: 0 is not valid; give a whole number, at least 1"),
        ("{}", ("--timeout", "soon"), "--timeout: 'soon' is not valid; give a number of seconds"),
    ],
)
def test_nonsense_is_one_line_that_names_its_place(
    with_test_runner: Path, table: str, arguments: tuple[str, ...], line: str
) -> None:
    # Given
    settings_file(with_test_runner, f"CONCURRENT_TEST_CONFIG = {table}\n")
    # When
    done = manage(*arguments, cwd=with_test_runner)
    # Then
    assert done.returncode == 4
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"dct: error: {line}")


# -- in sequence ---------------------------------------------------------------------------


def test_tests_that_are_not_to_be_concurrent_run_in_sequence_which_is_said(
    with_test_runner: Path,
) -> None:
    # Given
    words = ("tests.Where.test_false", "--parallel", "2")
    # When
    done = manage(*words, cwd=with_test_runner, DJANGO_ENABLE_CONCURRENT="False")
    # Then
    assert done.returncode == 1
    assert "FAILED (failures=1)" in done.stderr
    first, *_, last = done.stderr.splitlines()
    assert first == (
        "dct: the tests run in sequence, not distributed: DJANGO_ENABLE_CONCURRENT says so"
    )
    assert last == "dct: the tests ran in sequence: DJANGO_ENABLE_CONCURRENT says so"


def strange_vendor(folder: Path) -> None:
    """The project's database is of a vendor that nobody can clone."""
    backend = folder / "strange" / "base.py"
    backend.parent.mkdir()
    (folder / "strange" / "__init__.py").touch()
    backend.write_text(
        "from django.db.backends.sqlite3 import base\n\n\n"
        "class DatabaseWrapper(base.DatabaseWrapper):\n    vendor = 'strange'\n"
    )
    settings_file(
        folder,
        "DATABASES = {'default': {'ENGINE': 'strange', 'NAME': ':memory:'}}\nUSE_TZ = True\n",
    )
    (folder / "tests.py").write_text(
        "from django.db import connection\nfrom django.test import TestCase\n\n\n"
        "class Rows(TestCase):\n"
        "    def test_one(self):\n"
        "        with connection.cursor() as cursor:\n"
        "            cursor.execute('SELECT 1')\n"
    )


def test_a_database_that_cannot_be_cloned_is_tested_in_sequence_which_is_said(
    with_test_runner: Path,
) -> None:
    # Given
    strange_vendor(with_test_runner)
    (with_test_runner / "j.xml").write_text("<testsuites/>")
    # When
    done = manage("--junitxml", "j.xml", "tests.Rows", cwd=with_test_runner)
    # Then
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 1 test" in done.stderr
    why = "database 'default' is of vendor 'strange', which cannot be cloned"
    lines = [line for line in done.stderr.splitlines() if why in line]
    assert lines[0].startswith(f"dct: the tests run in sequence, not distributed: {why}")
    assert lines[-1].startswith(f"dct: the tests ran in sequence (exit code 0): {why}")
    (error,) = ElementTree.parse(with_test_runner / "j.xml").iter("error")
    assert "the tests ran in sequence, and their results are in the output alone" in error.get(
        "message", ""
    )


def test_without_a_fall_back_it_ends_the_run(with_test_runner: Path) -> None:
    # Given
    strange_vendor(with_test_runner)
    # When
    done = manage("--fallback", "none", "tests.Rows", cwd=with_test_runner)
    # Then
    assert done.returncode == 4, done.stdout + done.stderr
    assert "dct: error: database 'default' is of vendor 'strange'" in done.stderr


# -- from the project's own code -------------------------------------------------------------


def test_a_runner_that_code_makes_and_calls_has_its_report_afterwards(
    with_test_runner: Path,
) -> None:
    # Given
    (with_test_runner / "check.py").write_text(
        "import os, json\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'own_settings'\n"
        "import django\ndjango.setup()\n"
        "from dct_celery.runner import ConcurrentTestRunner\n"
        "runner = ConcurrentTestRunner(\n"
        "    junitxml='j.xml', parallel=1, timeout=60, verbosity=0, benchmark=True)\n"
        "failures = runner.run_tests(['tests'])\n"
        "summary = runner.prometheus_metrics.get_metrics_summary()\n"
        "print(json.dumps([failures, runner.report['totals']['tests'], summary]))\n"
    )
    # When
    done = subprocess.run(
        [sys.executable, "check.py", "--fast"],
        cwd=with_test_runner,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # Then
    assert done.returncode == 0, done.stdout + done.stderr
    failures, count, summary = json.loads(done.stdout.splitlines()[-1])
    assert (failures, count) == (1, 2)
    assert 0 < summary["test_duration_avg"] <= summary["test_duration_p95"]
    assert set(summary) == {
        "test_duration_avg", "test_duration_p95", "total_queries", "total_writes",
        "connection_errors", "worker_duration_avg", "worker_retries",
    }  # fmt: skip
    assert "Benchmark" in done.stdout
    assert summary["worker_duration_avg"] > 0
    assert (with_test_runner / "j.xml").is_file()
