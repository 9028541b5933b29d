"""The entry point for pytest: options, and nothing else as long as none of them is used.

Every pytest in an environment with this package imports this file. It imports nothing of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dct", "distributed over Celery workers (dct)")
    group.addoption(
        "--dct",
        action="store_true",
        default=False,
        help="Run the tests on the workers of the pool; settings are those of dct run (see dct"
        " config)",
    )
    for flag, (name, metavar, text) in VALUES.items():
        group.addoption(flag, dest=f"dct_{name}", metavar=metavar, default=None, help=text)


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Takes the place of the run loop, if that is wanted and there is something to run."""
    option: Any = config.option
    if not option.dct or hasattr(config, "workerinput"):
        return
    from dct_celery.pytest_plugin.session import install

    install(config)
