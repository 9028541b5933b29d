"""What a run did with database servers, summed over workers and slots, for the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Counters that are summed, see `ports.DatabaseStats`.
COUNTS = (
    "opened",
    "reused",
    "recycled",
    "failed",
    "statements",
    "cloned",
    "healed",
    "adopted",
    "dropped",
)
#: Durations that are summed; `waited_seconds` is what slots waited for their clones.
SECONDS = ("clone_seconds", "heal_seconds", "waited_seconds")


@dataclass(slots=True)
class DatabaseUse:
    """The sums over the reports of workers and slots.

    Each report holds what is new since the last.
    """

    sums: dict[str, float] = field(default_factory=dict)
    #: worker -> where its templates came from (reused, restored, built) and the seconds of each
    #: step.
    workers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, part: Mapping[str, float]) -> None:
        for name in (*COUNTS, *SECONDS):
            if value := part.get(name, 0):
                self.sums[name] = self.sums.get(name, 0) + value

    def prepared(self, worker: str, templates: str, steps: Mapping[str, float]) -> None:
        """A worker is ready: where its templates came from, and the seconds of each step."""
        self.workers[worker] = {"templates": templates, "seconds": dict(steps)}

    @property
    def build_seconds(self) -> float:
        """What building the templates took; 0 if nobody has built any."""
        return max(
            (
                float(how["seconds"].get("templates", 0.0))
                for how in self.workers.values()
                if how["templates"] == "built"
            ),
            default=0.0,
        )

    def to_dict(self, known_build_seconds: float = 0.0) -> dict[str, Any]:
        """Plain values; empty when no database was used. `known_build_seconds`: what building the
        templates took earlier.
        """
        if not self.sums and not self.workers:
            return {}
        saved = 0.0 if self.build_seconds or not self.workers else known_build_seconds
        counts = {name: int(self.sums.get(name, 0)) for name in COUNTS}
        seconds = {name: round(self.sums.get(name, 0.0), 4) for name in SECONDS}
        seconds["saved_seconds"] = round(saved, 4)
        return {**counts, **seconds, "workers": self.workers}


def totals(parts: Iterable[Mapping[str, float]], **more: float) -> dict[str, float]:
    """The sums of several servers' figures, by name, and some more of the caller's own."""
    sums = dict(more)
    for part in parts:
        for name, value in part.items():
            sums[name] = sums.get(name, 0) + value
    return sums


class Changes:
    """Turns running totals into what is new since the last call."""

    def __init__(self) -> None:
        self._reported: dict[str, float] = {}

    def since(self, totals: Mapping[str, float]) -> dict[str, float]:
        new = {
            name: value - self._reported.get(name, 0)
            for name, value in totals.items()
            if value != self._reported.get(name, 0)
        }
        self._reported.update(totals)
        return {name: round(value, 6) for name, value in new.items()}
