"""The slots of a run, as plugins for xdist know its workers.

Plugins are asked once for what each process of the run is to get. A process that a slot starts has
its own id and nothing else of its own, and its `workeroutput` does not come back: plugins find
that it is absent, as where one of xdist's workers has died.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.wire.pytest_reports import plain

#: What we put into `workerinput` ourselves.
_OURS = frozenset({"workerid", "workercount", "testrunuid", "mainargv"})


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
    """Stands for all slots of the run."""

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
        for name, value in self.added().items():
            if _as_lists(value) != plain(value):
                raise pytest.UsageError(
                    f"workerinput[{name!r}] of a plugin is of {type(value).__name__}, which does"
                    " not travel to other machines; disable the plugin with -p no:NAME"
                )

    def down(self) -> None:
        self._call("pytest_testnodedown", error=None)

    def _call(self, name: str, **arguments: Any) -> None:
        if hasattr(self.config.hook, name):
            hook = self.config.pluginmanager.subset_hook_caller(name, self._but)
            hook(node=self, **arguments)

    def added(self) -> dict[str, Any]:
        return {name: value for name, value in self.workerinput.items() if name not in _OURS}


def _as_lists(value: Any) -> Any:
    """JSON has one kind of sequence."""
    if isinstance(value, dict):
        return {name: _as_lists(one) for name, one in value.items()}
    return [_as_lists(one) for one in value] if isinstance(value, (list, tuple)) else value
