"""The options of `dct run` that the test command has, too.

Written out rather than taken from the table of settings, which each loader would have to import.
"""

from __future__ import annotations

import argparse
from typing import Any

#: Flag -> what stands for its value in the help, and the help.
_VALUES = {
    "--junitxml": ("PATH", "Write JUnit XML."),
    "--junit-xml": ("PATH", "As --junitxml."),
    "--json": ("PATH", "Write the report as JSON."),
    "--store": ("URL", "URL of the Redis or Valkey that keeps the run."),
    "--broker": ("URL", "URL of the Celery broker. Default: the store."),
    "--pool": ("NAME", "Pool of workers to use."),
    "--fallback": (
        "none|sequential",
        "Where tests cannot be distributed. Default: run them in sequence.",
    ),
    "--timeout": ("SECONDS", "Seconds that the whole run may take."),
    "--test-timeout": (
        "SECONDS",
        "End a test that takes longer. Default: ten times its last duration, at least 60.",
    ),
    "--fixture-timeout": (
        "SECONDS",
        "End a class or module fixture that takes longer. Default: 300, or more by earlier runs.",
    ),
    "--reruns": ("N", "Run each failed test again, up to N times. Default: 0."),
    "--reruns-budget": (
        "PERCENT",
        "Stop reruns once more than PERCENT of all tests have failed. Default: 10.",
    ),
    "--timings-file": (
        "PATH",
        "Keep the timings of the project in this file, too. Default: the setting"
        " TEST_TIMINGS_FILE.",
    ),
    "--import-timings": ("PATH", "Plan with the timings in this file where no run has measured."),
    "--import-timings-csv": ("PATH", "The same from a file in CSV."),
    "--export-timings": ("PATH", "Write the timings of the project to this file at the end."),
    "--export-timings-csv": ("PATH", "The same in CSV."),
}
#: The same for those whose value may be left out.
_BARE = {
    "--benchmark": ("PATH", "Print a benchmark report; with PATH, write it as JSON, too."),
    "--local": (
        "N",
        "Run on N slots of this machine instead of a fleet. Default: one per core, memory"
        " permitting.",
    ),
}
_SWITCHES = {
    "--coverage": "Measure coverage of the project's code.",
    "--sequential": "Run the tests here, in sequence, as Django's own runner does.",
}


def add_to(parser: argparse.ArgumentParser) -> None:
    add: Any = parser.add_argument_group("dct").add_argument
    add("-x", action="store_true", dest="failfast", help="As --failfast.")
    add("-n", metavar="N", dest="most_slots", help="Use at most N slots, as --parallel N.")
    add("--runner", metavar="DOTTED", dest="runner_class", help="As --testrunner.")
    for flag, (metavar, text) in _VALUES.items():
        add(flag, metavar=metavar, help=text)
    for flag, (metavar, text) in _BARE.items():
        add(flag, nargs="?", const="auto", metavar=metavar, help=text)
    for flag, text in _SWITCHES.items():
        add(flag, action="store_true", help=text)
