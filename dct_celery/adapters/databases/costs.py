"""What cloning and healing have cost so far, per template."""

from __future__ import annotations

from dataclasses import dataclass, field

from dct_celery.core.averages import moving


@dataclass(slots=True)
class Costs:
    """Exponential averages of seconds."""

    _clone: dict[str, float] = field(default_factory=dict)
    _heal: dict[str, float] = field(default_factory=dict)

    def cloned(self, template: str, seconds: float) -> float:
        return _add(self._clone, template, seconds)

    def healed(self, template: str, seconds: float) -> float:
        return _add(self._heal, template, seconds)

    def heals_cheaper(self, template: str) -> bool | None:
        """Whether healing is cheaper; None until both were measured."""
        clone, heal = self._clone.get(template), self._heal.get(template)
        return None if clone is None or heal is None else heal < clone


def _add(averages: dict[str, float], template: str, seconds: float) -> float:
    averages[template] = moving(averages.get(template), seconds)
    return seconds
