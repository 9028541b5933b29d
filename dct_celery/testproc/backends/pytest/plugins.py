"""What other plugins must find, and must not do, where the tests of a run are spread over slots.

A process of ours looks like one of xdist's workers: plugins know these. What xdist's own processes
would do, and what decides over the run as a whole, is switched off.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from dct_celery.testproc import coverage
from dct_celery.testproc.nowhere import Nowhere
from dct_celery.wire import messages
from dct_celery.wire.pytest_reports import Input

#: In the loader, until a fork has one of its own.
LOADER = "gw0"


def begin_coverage(early_config: pytest.Config, order: messages.Load) -> bool:
    """Before pytest-cov begins to measure. Returns whether that is wanted.

    It measures as in a process that runs all tests: the dispatcher combines the data. A collect
    process measures nothing.
    """
    known: Any = early_config.known_args_namespace
    if not getattr(known, "cov_source", None) or known.no_cov:
        return False
    if order.collect_only:
        known.cov_source = []
    else:
        known.dist, known.distload, known.numprocesses = "no", False, None
        coverage.set_folder(order)
    return True


def take_over_coverage(early_config: pytest.Config, order: messages.Load) -> None:
    """Once pytest-cov measures: its data are ours to send, and reports are the dispatcher's."""
    plugin: Any = early_config.pluginmanager.getplugin("_cov")
    if plugin is None or plugin.cov_controller is None:
        return
    plugin._is_worker = lambda session: False
    plugin.options.cov_report, plugin.options.cov_fail_under = {}, None
    coverage.take_over(plugin.cov_controller.cov, order)


def leave_coverage(config: pytest.Config) -> None:
    """In the loader, when all its forks have ended: nothing is left to combine here."""
    plugin: Any = config.pluginmanager.getplugin("_cov")
    if plugin is not None:
        plugin.cov_controller = None


def become_worker(config: pytest.Config, given: Input) -> str:
    """Makes the process one of xdist's workers to all plugins, before they are configured.

    Returns the value of `--dist`.
    """
    option: Any = config.option
    dist = str(getattr(option, "dist", "no"))
    if hasattr(option, "dist"):  # as xdist's own workers do
        option.loadgroup = False
        option.looponfail = False
        option.dist = "no"
        option.distload = False
        option.numprocesses = None
        option.maxprocesses = None
        option.tx = []
    option.usepdb = False
    added = given.added if given.added is not None else _seeds(config, given.seed)
    untyped: Any = config
    untyped.workerinput = {
        "workerid": LOADER,
        "workercount": given.workercount,
        "testrunuid": given.testrunuid,
        "mainargv": list(given.mainargv),
        **added,
    }
    untyped.workeroutput = {}
    announce(config, LOADER)
    _without_sockets(config)
    return dist


def announce(config: pytest.Config, workerid: str) -> None:
    """The id of this process, wherever plugins look for it."""
    untyped: Any = config
    untyped.workerinput["workerid"] = workerid
    os.environ["PYTEST_XDIST_WORKER"] = workerid
    os.environ["PYTEST_XDIST_WORKER_COUNT"] = str(untyped.workerinput["workercount"])
    os.environ["PYTEST_XDIST_TESTRUNUID"] = untyped.workerinput["testrunuid"]


def leave_to_the_dispatcher(session: pytest.Session) -> int:
    """When all is collected: only the dispatcher decides when the run ends.

    Returns after how many failures it does; 0: it does not.
    """
    maxfail = int(session.config.option.maxfail or 0)
    if maxfail:
        session.config.option.maxfail = 0
    manager = session.config.pluginmanager
    if manager.hasplugin("stepwiseplugin"):
        manager.unregister(name="stepwiseplugin")
        maxfail = maxfail or 1
    terminal: Any = manager.getplugin("terminalreporter")
    if terminal is not None:
        terminal._tw._file.flush()
        terminal._tw._file = Nowhere()
    return maxfail


def _seeds(config: pytest.Config, seed: int) -> dict[str, Any]:
    """For a dispatcher without pytest: what its plugins would have added to `workerinput`."""
    added: dict[str, Any] = {}
    wanted = config.getoption("randomly_seed", None)
    if wanted is not None:
        last = config.getini("cache_dir") if wanted == "last" else None
        added["randomly_seed"] = seed if wanted == "default" or last else wanted
    if config.getoption("random_order_seed", None) is None and config.pluginmanager.hasplugin(
        "random_order"
    ):
        added["random_order_seed"] = str(random.Random(seed).randint(1, 1_000_000))
    return added


def _without_sockets(config: pytest.Config) -> None:
    """pytest-rerunfailures keeps its counts behind a socket of the dispatcher's machine where it
    finds xdist; a slot may be elsewhere. They are of one test, which runs in one process.
    """
    plugin: Any = config.pluginmanager.getplugin("rerunfailures")
    if plugin is not None and hasattr(plugin, "HAS_PYTEST_HANDLECRASHITEM"):
        plugin.HAS_PYTEST_HANDLECRASHITEM = False
