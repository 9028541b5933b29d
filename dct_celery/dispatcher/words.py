"""What workers say about the run as a whole: ready, checked, refused, failed, and what they did with databases."""

from __future__ import annotations

from typing import Any

from dct_celery.core import events as ev
from dct_celery.core.databaseuse import DatabaseUse
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.services import Console


class Words:
    """Heard in the order of the stream."""

    def __init__(self, fleet: Fleet, console: Console) -> None:
        self._fleet = fleet
        self._console = console
        #: Some worker has seen the system checks pass.
        self.checked = False
        self.databases = DatabaseUse()

    def hear(self, worker: str, word: dict[str, Any], *, again: bool) -> ev.Stopped | None:
        """The end of the run, where the word is one. `again`: it was shown by the dispatcher before this one."""
        if not again:
            self._show(worker, word)
        if word["state"] == "ready":
            self.checked = self.checked or word["checked"]
            self.databases.prepared(worker, word)
        elif word["state"] == "checked":
            self.checked = True
        elif word["state"] == "databases":
            self.databases.add(word["use"])
        elif word["state"] == "refused":
            self._fleet.refusals[worker] = word["message"]
        elif word["state"] != "short":
            return ev.Stopped(f"{word['message']} (said {worker})", 1, late=True)
        return None

    def _show(self, worker: str, word: dict[str, Any]) -> None:
        if word["state"] == "ready":
            how = f", templates {word['templates']}" if word.get("templates") else ""
            self._console.line(f"{worker} is ready after {word['seconds']:.1f} s{how}")
        elif word["state"] == "refused":
            self._console.warn(f"{worker} refuses the run: {word['message']}{indented(word['detail'])}")
        elif word["state"] == "short":
            self._console.warn(f"{worker}: {word['message']}")
        elif word["state"] == "failed" and word["detail"]:
            self._console.warn(f"{word['message']}{indented(word['detail'])}")


def indented(detail: str) -> str:
    """Lines that hang below one."""
    return "".join(f"\n    {line}" for line in detail.splitlines())
