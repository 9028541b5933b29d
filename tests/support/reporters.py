"""A reporter that keeps its events, and one that fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from dct_celery.ports.reporting import Notice, ReportEvent, Warned

E = TypeVar("E", bound=ReportEvent)


@dataclass
class Listener:
    """All events, in order."""

    events: list[ReportEvent] = field(default_factory=list)

    def take(self, event: ReportEvent) -> None:
        self.events.append(event)

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.all(Warned)]

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.all(Notice)]


@dataclass
class Broken:
    """Raises this at each event of this kind."""

    error: Exception
    at: type = object

    def take(self, event: ReportEvent) -> None:
        if isinstance(event, self.at):
            raise self.error
