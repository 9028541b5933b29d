"""The slots of a run, as plugins for xdist know its workers.

Plugins are asked once for what each process of the run is to get: a process that a slot starts has
its own id and nothing else of its own. When the run is over, they are told of each process that has
sent its `workeroutput`; if none has, once, without one, as where one of xdist's workers has died.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.wire.pytest_reports import packed

#: What we put into `workerinput` ourselves.
_OURS = frozenset({"workerid", "workercount", "testrunuid", "mainargv"})
#: Options of plugins that choose at random, which are the key in `workerinput`, too. Where xdist is
#: not installed, they do not put it there.
_SEEDS = ("randomly_seed", "random_order_seed")


class Gateway:
    """What plugins read of execnet's."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.spec = SimpleNamespace(
            popen=None, id=name, chdir=None, python=None, _spec=f"dct//{name}"
        )

    def _rinfo(self, update: bool = False) -> SimpleNamespace:
        return SimpleNamespace(
            version_info=tuple(sys.version_info),
            platform=sys.platform,
            executable=sys.executable,
            cwd=os.getcwd(),
            pid=os.getpid(),
        )


class Node:
    """Stands for all slots of the run; or, when that is over, for one test process."""

    #: Of one test process.
    workeroutput: dict[str, Any]

    def __init__(
        self, config: pytest.Config, workerinput: dict[str, Any], but: Sequence[Any] = ()
    ) -> None:
        """`but`: plugins that are not asked."""
        self.config = config
        self._but = list(but)
        self.workerinput = workerinput
        self.gateway = Gateway(workerinput["workerid"])
        self.nodemanager = SimpleNamespace(roots=[], testrunuid=workerinput["testrunuid"])
        self.workerinfo = {
            "version": sys.version,
            "version_info": tuple(sys.version_info),
            "sysplatform": sys.platform,
            "platform": platform.platform(),
            "executable": sys.executable,
            "cwd": os.getcwd(),
            "id": self.gateway.id,
            "spec": self.gateway.spec,
        }
        self.slaveinput, self.slaveinfo = self.workerinput, self.workerinfo

    def configure(self) -> None:
        """Plugins add to `workerinput`. Raises pytest.UsageError for what cannot travel."""
        self._call("pytest_configure_node")
        self._call("pytest_testnodeready")
        for name in _SEEDS:
            seed = getattr(self.config.option, name, None)
            if seed is not None:
                self.workerinput.setdefault(name, seed)
        for name, value in self.added().items():
            try:
                packed(value)
            except (TypeError, RecursionError) as error:
                raise pytest.UsageError(
                    f"workerinput[{name!r}] of a plugin: {error}; disable the plugin with"
                    " -p no:NAME"
                ) from None

    def collected(self, ids: list[str]) -> None:
        self._call("pytest_xdist_node_collection_finished", ids=ids)

    def down(self, outputs: Mapping[str, dict[str, Any]]) -> None:
        """`outputs`: id of a test process -> what it has sent."""
        for workerid, output in outputs.items():
            node = Node(self.config, {**self.workerinput, "workerid": workerid}, self._but)
            node.workeroutput = output
            node._call("pytest_testnodedown", error=None)
        if not outputs:
            self._call("pytest_testnodedown", error=None)

    def _call(self, name: str, **arguments: Any) -> None:
        if hasattr(self.config.hook, name):
            hook = self.config.pluginmanager.subset_hook_caller(name, self._but)
            hook(node=self, **arguments)

    def added(self) -> dict[str, Any]:
        return {name: value for name, value in self.workerinput.items() if name not in _OURS}
