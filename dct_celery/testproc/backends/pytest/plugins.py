"""What other plugins must find, and must not do, where the tests of a run are spread over slots.

A process of ours looks like one of xdist's workers: plugins know these. What xdist's own processes
would do, and what decides over the run as a whole, is switched off.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from dct_celery.testproc import coverage
from dct_celery.testproc.nowhere import Nowhere
from dct_celery.wire import messages
from dct_celery.wire.pytest_reports import Input

#: The module of pytest-retry.
_RETRY = "pytest_retry.retry_plugin"
#: Plugins that gather results by ways that end at the border of a machine: name -> what is lost.
_LOCAL = {
    "harvest": "pytest-harvest does not gather results: its files stay where each test has run",
}
#: Where the fixture of pytest-django looks for its address.
_LIVE_SERVER = "DJANGO_LIVE_TEST_SERVER_ADDRESS"


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


def limits(config: pytest.Config) -> Iterator[str]:
    """A sentence for each plugin that does less on slots than it does alone."""
    manager = config.pluginmanager
    for name, sentence in _LOCAL.items():
        if manager.hasplugin(name):
            yield sentence
    if config.getoption("max_suite_reruns", None) is not None:
        yield "--max-suite-reruns counts in each test process by itself"
    server = config.getoption("liveserver", None) or os.environ.get(_LIVE_SERVER, "")
    if server.rpartition(":")[2].isdecimal() and not server.endswith(":0"):
        line = "only one test process of a machine can have it; leave out the port"
        yield f"live_server at {server}: {line}"
    if config.getoption("setupshow", False):
        yield "--setup-show shows nothing of what test processes set up"
    logs = manager.hasplugin("logging")  # else its settings are unknown
    if logs and (config.getoption("log_file", None) or config.getini("log_file")):
        yield "the log file of pytest gets nothing: each test process writes one of its own"
    if not manager.hasplugin("xdist"):
        for name in ("syrupy", "pytest-durations"):
            if manager.hasplugin(name):
                yield f"{name} reports nothing of other processes unless pytest-xdist is installed"


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
    added = {**_seeds(config, given.seed), **(given.added or {})}
    untyped: Any = config
    untyped.workerinput = {
        "workerid": own_id(os.environ),
        "workercount": given.workercount,
        "testrunuid": given.testrunuid,
        "mainargv": list(given.mainargv),
        **added,
    }
    untyped.workeroutput = {}
    announce(config, untyped.workerinput["workerid"])
    _without_sockets(config)
    _show_timeouts()
    return dist


def retry_text() -> str:
    """What pytest-retry has written for its summary since the last call."""
    module: Any = sys.modules.get(_RETRY)
    if module is None:
        return ""
    reporter = module.retry_manager.reporter
    text = str(reporter.stream.getvalue())
    reporter.stream.seek(0)
    reporter.stream.truncate()
    return text


def own_id(environ: Mapping[str, str]) -> str:
    """`gwN`. N is small, as tests add it to ports, and of this process alone in the whole run. It
    is 0 where no tests run, as in a loader.
    """
    return f"gw{environ.get('DCT_PROCESS', '0')}"


def announce(config: pytest.Config, workerid: str) -> None:
    """The id of this process, wherever plugins look for it."""
    untyped: Any = config
    untyped.workerinput["workerid"] = workerid
    os.environ["PYTEST_XDIST_WORKER"] = workerid
    os.environ["PYTEST_XDIST_WORKER_COUNT"] = str(untyped.workerinput["workercount"])
    os.environ["PYTEST_XDIST_TESTRUNUID"] = untyped.workerinput["testrunuid"]


def sort_new_first(config: pytest.Config, root: str, modified: Mapping[str, float]) -> None:
    """For `--nf`, which sorts files by when they were changed. `root`: top of the tree."""
    plugin: Any = config.pluginmanager.getplugin("nfplugin")
    if plugin is None:
        return

    def changed(item: pytest.Item) -> float:
        return modified.get(os.path.relpath(item.path, root), 0.0)

    plugin._get_increasing_order = lambda items: sorted(items, key=changed, reverse=True)


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
        # --stepwise-skip ignores the first failure.
        maxfail = maxfail or 1 + bool(session.config.option.stepwise_skip)
    terminal: Any = manager.getplugin("terminalreporter")
    if terminal is not None:
        terminal._tw._file.flush()
        terminal._tw._file = Nowhere()
    return maxfail


def _seeds(config: pytest.Config, seed: int) -> dict[str, Any]:
    """What plugins find in `workerinput` although nobody could ask them on the dispatcher: that has
    no pytest, or pytest has no xdist there.
    """
    added: dict[str, Any] = {}
    wanted = config.getoption("randomly_seed", None)
    if wanted is not None:
        last = config.getini("cache_dir") if wanted == "last" else None
        added["randomly_seed"] = seed if wanted == "default" or last else wanted
    chosen = config.getoption("random_order_seed", None)
    if chosen is not None:
        # With these words in front, the plugin does nothing unless another option asks for it.
        own = f"default:{random.Random(seed).randint(1, 1_000_000)}"
        added["random_order_seed"] = own if chosen.startswith("default:") else chosen
    return added


def _show_timeouts() -> None:
    """pytest-timeout's method `thread` writes all stacks to pytest's terminal and ends the process.
    Here such a terminal leads nowhere, while the end of the process's own output is kept.
    """
    module: Any = sys.modules.get("pytest_timeout")
    original = getattr(module, "timeout_timer", None)
    if original is None:
        return

    def timeout_timer(item: pytest.Item, settings: Any) -> None:
        # What capture has put in the place of the descriptor is gone when this is written to.
        own = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        item.config.get_terminal_writer()._file = own
        original(item, settings)

    module.timeout_timer = timeout_timer


def _without_sockets(config: pytest.Config) -> None:
    """Where they find xdist, these plugins connect to the dispatcher's machine by the name of
    localhost; a slot may be elsewhere.

    pytest-rerunfailures has its counts there. They are of one test, which runs in one process.
    pytest-retry sends the text of its summary: it is kept here, see `retry_text`.
    """
    plugin: Any = sys.modules.get("pytest_rerunfailures")
    if plugin is not None and hasattr(plugin, "HAS_PYTEST_HANDLECRASHITEM"):
        plugin.HAS_PYTEST_HANDLECRASHITEM = False
    retry: Any = sys.modules.get(_RETRY)
    if retry is not None and hasattr(retry, "ClientReporter"):
        retry.ClientReporter = lambda port: retry.OfflineReporter()
        untyped: Any = config
        untyped.workerinput.setdefault("server_port", 0)
