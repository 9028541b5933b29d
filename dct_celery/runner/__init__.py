"""`manage.py test` through `dct run`: takes Django's options, returns the number of failures.

    TEST_RUNNER = "dct_celery.runner.ConcurrentTestRunner"

`dct run` is started as a separate process, so that it loads the project as in every other run: by
the same command, which executes there and on every worker from its beginning. Options that are not
on the command line come from variables and `[tool.dct]`, as always, and then from
`CONCURRENT_TEST_CONFIG` in the Django settings. Without a store, the tests run on this machine, on
a slot for each core. Where they cannot be distributed, they run in sequence, which is said. In a
test process of dct the class is Django's DiscoverRunner, so runs never nest.

`command_line` makes the arguments of `dct run`, `project_settings` reads the Django settings,
`environment` is that of the process, `results` is what is known afterwards.
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

from dct_celery.runner import arguments
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
        arguments.add_to(parser)

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
            from dct_celery.bootstrap import subcommand
            from dct_celery.runner.environment import colours, environment

            command, *arguments = planned.argv
            with self._results.kept_in(planned.report) as flags:
                code = subcommand.run(
                    [sys.executable, "-P", "-m", "dct_celery.cli", command, *flags, *arguments],
                    {**environment(), **planned.environment, **colours(self.given)},
                    apart=True,
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
