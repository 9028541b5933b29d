"""The entry point for pytest: options, and nothing else as long as none of them is used.

Every pytest in an environment with this package imports this file. It imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

#: Option -> setting, and how it is shown. All other settings are variables or [tool.dct].
VALUES = {
    "--dct-local": ("local", "N", "Run on this machine alone with N slots; 0: one per core"),
    "--dct-store": ("store", "URL", "URL of the store, a Redis or Valkey server"),
    "--dct-broker": ("broker", "URL", "URL of the Celery broker; default: the store"),
    "--dct-pool": ("pool", "NAME", "Pool of workers that runs the tests"),
    "--dct-run-id": ("run_id", "ID", "Id of the run; default: a random one"),
    "--dct-json": ("json", "PATH", "Write the JSON report of dct to this file"),
}

#: An older spelling of --dct with --dct-local. They are no options of the parser: another plugin or
#: a conftest.py may have options of these names.
CONCURRENT, WORKERS = "--concurrent", "--workers"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dct", "distributed over Celery workers (dct)")
    group.addoption(
        "--dct",
        action="store_true",
        default=False,
        help="Run the tests on the workers of the pool; settings are those of dct run (see dct"
        " config)",
    )
    group.addoption(
        "--dct-concurrent",
        action="store_true",
        default=False,
        help="As --dct; without a store on this machine, with a slot per core. Also spelt"
        f" {CONCURRENT}, with {WORKERS} N for --dct-local N",
    )
    for flag, (name, metavar, text) in VALUES.items():
        group.addoption(flag, dest=f"dct_{name}", metavar=metavar, default=None, help=text)
    parser.addini(
        "dct_once",
        "Fixtures of scope session that distributed runs set up once on each host (dct)",
        type="args",
        default=[],
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Iterator[None]:
    """Puts our own options in the place of the older ones, unless another plugin has these."""
    if CONCURRENT not in args:
        yield
        return
    known: Any = early_config.known_args_namespace
    translated = in_our_words(args)
    # The number of workers is no path, in which conftests are looked for.
    known.file_or_dir = parser.parse_known_args(translated).file_or_dir
    yield
    if CONCURRENT in parser.parse_known_and_unknown_args([CONCURRENT])[1]:
        args[:] = translated


def in_our_words(args: Sequence[str]) -> list[str]:
    """The arguments with our own options in the place of the older ones."""
    kept: list[str] = []
    end = list(args).index("--") if "--" in args else len(args)
    for word in args[:end]:
        name, equals, value = word.partition("=")
        if word == CONCURRENT:
            kept.append("--dct-concurrent")
        elif name == WORKERS:
            kept.append(f"--dct-local{equals}{value}")
        else:
            kept.append(word)
    return [*kept, *args[end:]]


def _refuse_alone(config: pytest.Config) -> None:
    """An option of ours on the command line, and not in the project's, is meant for this run."""
    for flag, (name, _, _) in VALUES.items():
        given = getattr(config.option, f"dct_{name}")
        words = () if given is None else config.invocation_params.args
        if any(word == flag or word.startswith(f"{flag}=") for word in map(str, words)):
            raise pytest.UsageError(f"{flag} has no effect without --dct; add --dct")


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Takes the place of the run loop, if that is wanted and there is something to run."""
    option: Any = config.option
    if hasattr(config, "workerinput"):
        return
    if not (option.dct or option.dct_concurrent):
        _refuse_alone(config)
        return
    from dct_celery.pytest_plugin.session import install

    install(config)
