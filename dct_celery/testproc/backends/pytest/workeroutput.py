"""What plugins of a test process have for the dispatcher: `config.workeroutput`.

xdist's workers send it once, behind `pytest_sessionfinish`. A process of ours has no such end: it
goes on as long as there is something to run, and is killed when the run is over. So the plugins
that wait for it on the dispatcher, those with `pytest_testnodedown`, get their own
`pytest_sessionfinish` behind each chunk, and the last output of a process counts. It goes with the
record of the chunk's last test: from an attempt that does not count, nothing arrives.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from dct_celery.wire.pytest_reports import packed, plain, without_root_inside

#: Packages whose own `pytest_testnodedown` has nothing to do with it: data of coverage has a way of
#: its own.
_APART = frozenset({"xdist", "pytest_cov", "dct_celery"})


class WorkerOutput:
    """Of one process."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        config = session.config
        waiting = [one for one in _plugins_with(config, "pytest_testnodedown")
                   if _package(one) not in _APART]  # fmt: skip
        #: Some plugin reads it.
        self.wanted = bool(waiting)
        # A package may have both hooks in different plugins; conftest files are no package.
        packages = {_package(one) for one in waiting if _package(one) != "conftest"}
        others = [
            one
            for one in _plugins_with(config, "pytest_sessionfinish")
            if one not in waiting and _package(one) not in packages
        ]
        self._finish = config.pluginmanager.subset_hook_caller("pytest_sessionfinish", others)

    def take(self, root: str) -> tuple[str, dict[str, Any]]:
        """An event for `TestReports`: "output", or "note" where a plugin has failed.

        `root`: top of the tree, without a separator at its end.
        """
        config: Any = self._session.config
        status = 1 if self._session.testsfailed else 0
        state = {"exitstatus": status, "shouldfail": False, "shouldstop": False}
        try:
            self._finish(session=self._session, exitstatus=status)
            output = without_root_inside({**config.workeroutput, **state}, root)
            return "output", packed(output, plain)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"[:300]
            return "note", {"text": f"workeroutput of a test process is missing: {said}"}


def _plugins_with(config: pytest.Config, hook: str) -> list[Any]:
    caller = getattr(config.hook, hook, None)
    return [] if caller is None else [found.plugin for found in caller.get_hookimpls()]


def _package(plugin: Any) -> str:
    """The topmost package of a plugin, which is a module, an object or a class."""
    if isinstance(plugin, ModuleType):
        return plugin.__name__.partition(".")[0]
    return str(getattr(plugin, "__module__", "")).partition(".")[0]
