"""`manage.py test` through `dct run`: takes Django's options, returns the number of failures.

    TEST_RUNNER = "dct_celery.runner.ConcurrentTestRunner"

`dct run` is started as a separate process, so that it loads the project as in every other run: by
the same command, which executes there and on every worker from its beginning. Options that are not
on the command line come from variables and `[tool.dct]`, as always, and then from
`CONCURRENT_TEST_CONFIG` in the Django settings. Without a store, the tests run on this machine, on
a slot for each core. Where they cannot be distributed, they run in sequence, which is said. In a
test process of dct the class is Django's DiscoverRunner, so runs never nest.

`command_line` makes the arguments of `dct run`, `project_settings` reads the Django settings,
`process` starts the process, `results` is what is known afterwards.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.test.runner import DiscoverRunner

from dct_celery.runner.results import Metrics, Results

if TYPE_CHECKING:
    from dct_celery.runner.command_line import Plan

#: This is a collect process, a loader or a test process, or what `dct run` has fallen back to;
#: whoever starts one sets the variable.
IN_TEST_PROCESS = os.environ.get("DCT_TEST_PROCESS") == "1" or bool(
    os.environ.get("DCT_IN_SEQUENCE")
)
#: Exit codes of `dct run`.
_FAILED = 1
_USAGE = 4


class ConcurrentTestRunner(DiscoverRunner):
    """Runs the tests on every slot of the pool, or of this machine.

    Takes Django's options and, by name, those of `dct run`: from the test command, or as keyword
    arguments (`junitxml`, `parallel`, `timeout`, ...) from code that calls `run_tests` itself.
    """

    #: The options as they were passed, whatever a subclass's `__init__` does to them.
    given: Mapping[str, Any]
    _results: Results

    def __new__(cls, *_: object, **options: object) -> ConcurrentTestRunner:
        runner = super().__new__(cls)
        runner.given = options
        runner._results = Results()
        return runner

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        add = parser.add_argument_group("dct").add_argument
        add("-x", action="store_true", dest="failfast", help="As --failfast.")
        add("-n", metavar="N", dest="most_slots", help="Use at most N slots, as --parallel N.")
        add("--runner", metavar="DOTTED", dest="runner_class", help="As --testrunner.")
        add("--coverage", action="store_true", help="Measure coverage of the project's code.")
        add("--junitxml", metavar="PATH", help="Write JUnit XML.")
        add("--junit-xml", metavar="PATH", help="As --junitxml.")
        add("--json", metavar="PATH", help="Write the report as JSON.")
        add(
            "--benchmark",
            nargs="?",
            const="auto",
            metavar="PATH",
            help="Print a benchmark report; with PATH, write it as JSON, too.",
        )
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
            "--sequential",
            action="store_true",
            help="Run the tests here, in sequence, as Django's own runner does.",
        )
        add(
            "--fallback",
            metavar="none|sequential",
            help="Where tests cannot be distributed. Default: run them in sequence.",
        )
        add("--timeout", metavar="SECONDS", help="Seconds that the whole run may take.")
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
        add(
            "--timings-file",
            metavar="PATH",
            help="Keep the timings of the project in this file, too. Default: the setting"
            " TEST_TIMINGS_FILE.",
        )
        add(
            "--import-timings",
            metavar="PATH",
            help="Plan with the timings in this file where no run has measured.",
        )
        add("--import-timings-csv", metavar="PATH", help="The same from a file in CSV.")
        add(
            "--export-timings",
            metavar="PATH",
            help="Write the timings of the project to this file at the end.",
        )
        add("--export-timings-csv", metavar="PATH", help="The same in CSV.")

    @property
    def report(self) -> dict[str, Any]:
        """What the JSON report of the last `run_tests` holds (docs/json.md).

        Empty before it, and after one in sequence.
        """
        return self._results.report

    @property
    def prometheus_metrics(self) -> Metrics:
        """Its `get_metrics_summary` sums up the last `run_tests`."""
        return Metrics(self._results)

    if not IN_TEST_PROCESS:

        def run_tests(self, test_labels: Sequence[str] = (), **_: Any) -> int:
            """The number of failures, 0 if all passed. Raises SystemExit with any other exit code
            of dct than 0 and 1, CommandError for options that this runner cannot honour.
            """
            from dct_celery.errors import ConfigError
            from dct_celery.runner.command_line import Refused, plan

            try:
                planned = plan(type(self), self.given, test_labels)
            except Refused as error:
                self._report_refusal(error)
                raise CommandError(str(error), returncode=_USAGE) from None
            except ConfigError as error:
                self._report_refusal(error)
                _say(f"error: {error}")
                raise SystemExit(_USAGE) from None
            for line in planned.notes:
                _say(line)
            if planned.in_sequence:
                return self._run_in_sequence(test_labels, planned.in_sequence)
            return self._run_distributed(planned)

        def _run_in_sequence(self, labels: Sequence[str], why: str) -> int:
            _say(f"the tests run in sequence, not distributed: {why}")
            failures = super().run_tests(list(labels))
            _say(f"the tests ran in sequence: {why}")
            return int(failures)

        def _run_distributed(self, planned: Plan) -> int:
            from dct_celery.runner.process import colours, environment, run

            command, *arguments = planned.argv
            with self._results.kept_in(planned.report) as flags:
                code = run(
                    [sys.executable, "-P", "-m", "dct_celery.cli", command, *flags, *arguments],
                    {**environment(), **planned.environment, **colours(self.given)},
                )
            if code not in (0, _FAILED):
                raise SystemExit(code)
            return max(self._results.failures, 1) if code else 0

        def _report_refusal(self, error: Exception) -> None:
            """Replaces the reports of an earlier run, which must not pass for those of this one."""
            from dct_celery.bootstrap.report_files import report_failure
            from dct_celery.errors import UsageError

            given = self.given
            flags = {
                "junit_xml": given.get("junitxml") or given.get("junit_xml"),
                "json": given.get("json"),
            }
            report_failure(flags, os.environ, Path.cwd(), UsageError(str(error)))


def _say(line: str) -> None:
    from dct_celery.core.text import one_line, visible
    from dct_celery.security import masking

    sys.stderr.write(f"dct: {visible(one_line(masking.PROCESS(line)))}\n")
