"""How long plans take, simulated: ours beside longest first, and a queue of classes as Django has.

    python -m tests.benchmarks.makespan [--seeds N] [--late]

The durations are those of large Django suites: tests of 10 ms (median) and 0.4 s (99th percentile),
about 8 to a class, some classes far longer. A slot takes 10 ms for a chunk besides its tests, and
80 ms more when it has to start a fresh test process. Printed: makespan / lower bound, the median of
the seeds.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from dct_celery.core.model import Manifest, Phase
from dct_celery.core.plan.planner import Atom, Planner, atoms
from dct_celery.core.plan.timings import Estimates, Sample, test_key
from tests.support.factories import group, make_manifest

#: Seconds that a chunk costs, and a fresh test process with its clone.
CHUNK_COST, FORK_COST = 0.010, 0.080
SIZES = ((1_000, 8), (10_000, 8), (10_000, 64), (100_000, 256))
#: Of ln(seconds): median 10 ms, 99th percentile 0.4 s.
_MU, _SIGMA = math.log(0.010), math.log(40) / 2.326


@dataclass(frozen=True)
class Suite:
    manifest: Manifest
    #: Index -> seconds that it really takes.
    seconds: Sequence[float]
    samples: dict[str, Sample]


#: Hands out indices; None at the end. Its argument is the present number of slots.
Source = Callable[[int], tuple[int, ...] | None]


def make_suite(tests: int, seed: int) -> Suite:
    chance = random.Random(seed)
    groups: list[tuple[Phase, int, str]] = []
    count = 0
    while count < tests:
        size = min(1 + int(chance.expovariate(1 / 7)), tests - count)
        phase = Phase.TRANSACTIONAL if chance.random() < 0.03 else Phase.ISOLATED
        groups.append((phase, size, f"app{len(groups) // 10}.tests.C{len(groups)}"))
        count += size
    groups.sort(key=lambda one: one[0] is Phase.TRANSACTIONAL)
    manifest = make_manifest(*(group(name, phase, count=size) for phase, size, name in groups))
    seconds = [chance.lognormvariate(_MU, _SIGMA) for _ in manifest]
    measured = {
        test_key(entry): Sample(seconds[entry.index] * chance.lognormvariate(0, 0.15), 3)
        for entry in manifest
    }
    return Suite(manifest, seconds, measured)


def ours(suite: Suite, samples: dict[str, Sample]) -> Source:
    planner = Planner(atoms(suite.manifest, Estimates(samples, suite.manifest)))

    def take(slots: int) -> tuple[int, ...] | None:
        chunk = planner.next_chunk(slots, frozenset())
        return chunk.indices if chunk else None

    return take


def longest_first(suite: Suite, samples: dict[str, Sample]) -> Source:
    """The best plan that knows durations alone: half the fair share, the longest atoms first."""
    estimates = Estimates(samples, suite.manifest)

    def timed(atom: Atom) -> bool:
        return any(estimates.planned(suite.manifest[n]) is not None for n in atom.indices)

    found = atoms(suite.manifest, estimates)
    left = sorted(found, key=lambda atom: (atom.phase, timed(atom), atom.estimate), reverse=True)
    total = [sum(atom.estimate for atom in left)]
    left.reverse()

    def take(slots: int) -> tuple[int, ...] | None:
        if not left:
            return None
        share = max(total[0] / (2 * slots), 0.5)
        taken = [left.pop()]
        seconds = taken[0].estimate
        while left and left[-1].phase is taken[0].phase and seconds + left[-1].estimate <= share:
            taken.append(left.pop())
            seconds += taken[-1].estimate
        total[0] -= seconds
        return tuple(sorted(index for atom in taken for index in atom.indices))

    return take


def class_queue(suite: Suite, samples: dict[str, Sample]) -> Source:
    queue = iter(atoms(suite.manifest, Estimates(samples, suite.manifest)))
    return lambda slots: next((atom.indices for atom in queue), None)


def makespan(suite: Suite, source: Source, joins: Sequence[float]) -> float:
    """Seconds until the last slot has ended. `joins`: when each slot appears."""
    free = [(at, slot) for slot, at in enumerate(joins)]
    heapq.heapify(free)
    last: dict[int, int] = {}
    end = 0.0
    while free:
        now, slot = heapq.heappop(free)
        indices = source(sum(1 for at in joins if at <= now))
        if indices is None:
            continue
        cost = CHUNK_COST + sum(suite.seconds[index] for index in indices)
        if last.get(slot, indices[0]) >= indices[0]:
            cost += FORK_COST
        last[slot] = indices[-1]
        end = max(end, now + cost)
        heapq.heappush(free, (now + cost, slot))
    return end


def bound(suite: Suite, joins: Sequence[float]) -> float:
    """Seconds that no plan can beat."""
    found = atoms(suite.manifest, Estimates({}, suite.manifest))
    longest = max(sum(suite.seconds[index] for index in atom.indices) for atom in found)
    return max((sum(suite.seconds) + sum(joins)) / len(joins), longest)


def ratio(
    suite: Suite, make: Callable[..., Source], *, warm: bool, joins: Sequence[float]
) -> float:
    source = make(suite, suite.samples if warm else {})
    return makespan(suite, source, joins) / bound(suite, joins)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    policies = {"ours": ours, "longest first": longest_first, "class queue": class_queue}
    print(f"{'tests × slots':>16}  {'state':10}" + "".join(f"{name:>15}" for name in policies))
    for tests, slots in SIZES:
        suites = [make_suite(tests, seed) for seed in range(options.seeds)]
        states = {"warm": [0.0] * slots, "cold": [0.0] * slots}
        # One slot begins; all others come when a tenth of the work of one slot is done.
        late = sum(suites[0].seconds) / slots / 4
        states["warm, late"] = states["cold, late"] = [0.0] + [late] * (slots - 1)
        for state, joins in states.items():
            row = [
                median(
                    ratio(suite, make, warm=state.startswith("warm"), joins=joins)
                    for suite in suites
                )
                for make in policies.values()
            ]
            print(
                f"{tests:>8,} × {slots:<5}  {state:10}" + "".join(f"{value:15.3f}" for value in row)
            )


if __name__ == "__main__":
    main()
