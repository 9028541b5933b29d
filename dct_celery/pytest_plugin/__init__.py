"""The entry point for pytest: options, and nothing else as long as none of them is used.

Every pytest in an environment with this package imports this file. It imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

#: Option -> setting, and how it is shown. All other settings are variables or [tool.dct].
VALUES = {
    "--dct-local": (
        "local",
        "N",
        "Run on N slots of this machine alone; 0: one per core, memory permitting",
    ),
    "--dct-store": ("store", "URL", "URL of the store, a Redis or Valkey server"),
    "--dct-broker": ("broker", "URL", "URL of the Celery broker; default: the store"),
    "--dct-pool": ("pool", "NAME", "Pool of workers that runs the tests"),
    "--dct-run-id": ("run_id", "ID", "Id of the run; default: a random one"),
    "--dct-json": ("json", "PATH", "Write the JSON report of dct to this file"),
    "--dct-import-timings": (
        "import_timings", "PATH", "Plan with the timings in this file where no run has measured"
    ),
    "--dct-import-timings-csv": ("import_timings_csv", "PATH", "The same from a file in CSV"),
    "--dct-export-timings": (
        "export_timings", "PATH", "Write the timings of the project to this file at the end"
    ),
    "--dct-export-timings-csv": ("export_timings_csv", "PATH", "The same in CSV"),
    "--dct-test-timeout": ("test_timeout", "SECONDS", "Seconds that one test may take"),
    "--dct-timeout": ("timeout", "SECONDS", "Seconds that the whole run may take"),
}  # fmt: skip

#: Older spellings, with --dct or the first of them. They are no options of the parser: another
#: plugin or a conftest.py may have options of these names, and then they are theirs.
CONCURRENT, WORKERS = "--concurrent", "--workers"
OLDER = {
    CONCURRENT: "--dct-concurrent",
    WORKERS: "--dct-local",
    "--import-timings": "--dct-import-timings",
    "--import-timings-csv": "--dct-import-timings-csv",
    "--export-timings": "--dct-export-timings",
    "--export-timings-csv": "--dct-export-timings-csv",
    "--test-timeout": "--dct-test-timeout",
    "--timeout": "--dct-timeout",
    "--worker-timeout": "--dct-worker-timeout",
}
#: An option of the older ones that nothing corresponds to.
WITHOUT_EFFECT = "--dct-worker-timeout"
#: Those of them that were given, and that nobody else has.
GIVEN = pytest.StashKey[Mapping[str, str]]()
#: The variables before plugins and conftest files have added theirs.
ENVIRON = pytest.StashKey[dict[str, str]]()


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
        f" {CONCURRENT}, with {WORKERS} N for --dct-local N, and others of these without dct-",
    )
    for flag, (name, metavar, text) in VALUES.items():
        group.addoption(flag, dest=f"dct_{name}", metavar=metavar, default=None, help=text)
    group.addoption(
        WITHOUT_EFFECT,
        metavar="SECONDS",
        default=None,
        help="Has no effect: a slot takes tests for as long as the run lasts, see --dct-timeout",
    )
    parser.addini(
        "dct_once",
        "Fixtures of scope session that distributed runs set up once on each host (dct)",
        type="args",
        default=[],
    )


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Iterator[None]:
    """Puts our own options in the place of the older ones, unless another plugin has these."""
    early_config.stash[ENVIRON] = dict(os.environ)
    older = _older(early_config, args)
    if not older:
        yield
        return
    known: Any = early_config.known_args_namespace
    with contextlib.suppress(pytest.UsageError):  # a conftest has one, of another kind
        # The value of an option is no path, in which conftests are looked for.
        known.file_or_dir = parser.parse_known_args(in_our_words(args, older)).file_or_dir
    yield
    free = {word: ours for word, ours in older.items() if _is_free(word, parser)}
    if CONCURRENT not in free:
        free.pop(WORKERS, None)
    translated = in_our_words(args, free)
    if _asks_for_dct(translated):
        args[:] = translated
        early_config.stash[GIVEN] = free


def _older(config: pytest.Config, args: Sequence[str]) -> dict[str, str]:
    """The older spellings on the command line -> our options; none where dct is not asked for."""
    if not _asks_for_dct(in_our_words(args, OLDER)):
        return {}
    found = OLDER.keys() & _names(args)
    if _in_test_process():
        found -= _names(config.invocation_params.args)
    if config.pluginmanager.hasplugin("timeout"):
        found -= {"--timeout"}
    return {word: ours for word, ours in OLDER.items() if word in found}


def _names(args: Sequence[str]) -> set[str]:
    return {word.partition("=")[0] for word in args}


def _asks_for_dct(args: Sequence[str]) -> bool:
    return _in_test_process() or "--dct" in args or OLDER[CONCURRENT] in args


def _in_test_process() -> bool:
    """There, the project's configuration adds its words, and --dct is not among the others."""
    return os.environ.get("DCT_TEST_PROCESS") == "1"


def _is_free(word: str, parser: pytest.Parser) -> bool:
    """It is no option of another plugin, nor of a conftest.py."""
    try:
        return word in parser.parse_known_and_unknown_args([word])[1]
    except pytest.UsageError:  # it is one, and wants a value
        return False


def in_our_words(args: Sequence[str], older: Mapping[str, str]) -> list[str]:
    """The arguments with our own options in the place of these older ones."""
    end = list(args).index("--") if "--" in args else len(args)
    words = (word.partition("=") for word in args[:end])
    return [*("".join((older.get(name, name), *rest)) for name, *rest in words), *args[end:]]


def _refuse_alone(config: pytest.Config) -> None:
    """An option of ours on the command line, and not in the project's, is meant for this run."""
    for flag, (name, _, _) in VALUES.items():
        given = getattr(config.option, f"dct_{name}", None)
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
    if os.environ.get("DCT_IN_SEQUENCE"):  # of dct run --fallback sequential
        return
    from dct_celery.pytest_plugin.session import install

    install(config)
