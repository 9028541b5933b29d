"""Pure: which faults strike a round, when and where.

The same seed and the same kinds give the same round.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: Strikes per round.
MOST = 4
#: Strikes of one round that may each cost a slot its chunk. A test that is lost three times is
#: given up on purpose, so more would prove nothing.
MOST_LOSING = 2
#: How many rounds in a hundred have tests that kill their process, passing tests alone; strikes
#: before the first verdict.
_TORTURE, _GREEN, _EARLY = 20, 30, 15
_VENDORS = ("postgresql", "mysql")
BROKERS = ("redis", "rabbitmq")
#: On `mixed`, every so many-th seed is played on RabbitMQ; a multiple of neither the vendors nor
#: anything else by seed.
_RABBIT = 3
#: Rounds of one broker that are played in a row at most: workers start again with another one, so
#: there are few changes.
_BLOCK = 30


@dataclass(frozen=True, slots=True)
class Kind:
    """What the schedule has to know of a kind of fault."""

    name: str
    #: Tests have to run again because of it.
    losing: bool = False
    #: Tests may stand still for long, so that a time limit would be a false verdict.
    stalling: bool = False
    #: Only one per round: a second one could be taken for the test's own doing, and rightly.
    once: bool = False
    #: The one worker that it can strike; None for any.
    worker: int | None = None


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault of a round."""

    kind: str
    #: Part of the verdicts that must be there (0: the run is announced), then `delay` seconds more.
    fraction: float
    delay: float
    #: Which worker.
    worker: int
    #: For the fault's own choices.
    seed: int

    def __str__(self) -> str:
        return f"{self.kind}@{self.fraction:.2f}+{self.delay:.1f}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One round."""

    seed: int
    #: postgresql | mysql
    vendor: str
    labels: tuple[str, ...]
    strikes: tuple[Strike, ...]
    #: redis | rabbitmq
    broker: str = "redis"

    @property
    def hangs(self) -> bool:
        return "torture.test_hanging" in self.labels


def broker_of(seed: int, broker: str) -> str:
    """Which broker this seed is played on; `broker`: one of BROKERS, or mixed."""
    return BROKERS[seed % _RABBIT == 0] if broker == "mixed" else broker


def order(seeds: Sequence[int], broker: str) -> list[int]:
    """The seeds with few changes of the broker.

    Each within the block it belongs to, so that an early end has all brokers.
    """
    found: list[int] = []
    last = BROKERS[0]
    for start in range(0, len(seeds), _BLOCK):
        block = sorted(
            seeds[start : start + _BLOCK], key=lambda seed: broker_of(seed, broker) != last
        )
        last = broker_of(block[-1], broker)
        found += block
    return found


def plan(seed: int, kinds: Sequence[Kind], *, workers: int, broker: str = "redis") -> Plan:
    """The round of this seed. ValueError without kinds."""
    if not kinds:
        raise ValueError("no kind of fault is left: choose others")
    chance = random.Random(seed)
    chosen = _choose(chance, kinds, chance.randint(1, MOST))
    strikes = sorted(
        (_strike(chance, kind, workers) for kind in chosen),
        key=lambda one: (one.fraction, one.delay),
    )
    labels = _labels(chance, any(kind.stalling for kind in chosen))
    return Plan(seed, _VENDORS[seed % 2], labels, tuple(strikes), broker)


def _choose(chance: random.Random, kinds: Sequence[Kind], count: int) -> list[Kind]:
    chosen: list[Kind] = []
    for _ in range(count):
        left = [kind for kind in kinds if _fits(kind, chosen)]
        if left:
            chosen.append(chance.choice(left))
    return chosen


def _fits(kind: Kind, chosen: Sequence[Kind]) -> bool:
    losing = sum(one.losing for one in chosen)
    return not (kind.once and kind in chosen) and not (kind.losing and losing >= MOST_LOSING)


def _strike(chance: random.Random, kind: Kind, workers: int) -> Strike:
    early = chance.randrange(100) < _EARLY
    fraction = 0.0 if early else round(chance.uniform(0.01, 0.9), 3)
    delay = round(chance.uniform(0.0, 4.0 if early else 0.6), 2)
    worker = chance.randrange(workers) if kind.worker is None else kind.worker
    return Strike(kind.name, fraction, delay, worker, chance.randrange(2**31))


def _labels(chance: random.Random, stalling: bool) -> tuple[str, ...]:
    if chance.randrange(100) < _GREEN:
        return ("green",)
    if chance.randrange(100) >= _TORTURE:
        return ("green", "red")
    hanging = ("torture.test_hanging",) if not stalling and chance.randrange(2) else ()
    return ("green", "red", "torture.test_dying", *hanging)
