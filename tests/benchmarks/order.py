"""How often the verdicts of a distributed run are those of the canonical order, simulated.

    python -m tests.benchmarks.order [--suites N] [--settle SECONDS]

Random suites of 50 to 2,000 classes with planted polluters, victims, cleaners, brittle classes
and state-setters, on random numbers of slots that die and join. A test is *right* if its verdict is
that of the sequential run, *named* if it is wrong or unproven and its report says so.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator
from statistics import median

from dct_celery.core.model import BAD_OUTCOMES, Verdict
from tests.support.order_world import Behaviour, Fleet, make_world


def described(
    verdict: Verdict, *, wanted_bad: bool, wanted_bad_apart: bool, seed: int
) -> Iterator[str]:
    """The lines of the table that the verdict counts for.

    `wanted_bad`: the sequential run fails it; `wanted_bad_apart`: also if each class that fails
    were the last of its process.
    """
    bad, note = verdict.outcome in BAD_OUTCOMES, verdict.order
    if wanted_bad and not wanted_bad_apart and not bad and note is None:
        yield "good, where the sequential run meets what a failure left behind"
    elif bad == wanted_bad:
        yield "right"
        if bad and note is not None and not note.proven:
            yield "right, named as unproven"
    else:
        wrongly = "bad" if bad else "good"
        yield f"wrongly {wrongly}, named" if note else f"WRONGLY {wrongly}, SILENT (seed {seed})"
    if note is not None:
        yield f"order-dependent: {note.kind}{'' if note.proven else ', unproven'}"


def ordinary_red_run(seed: int, slots: int = 8) -> float:
    """Share of the run's slot-seconds that settling takes: ten classes fail for good.

    They are known to have passed alone.
    """
    world = make_world(1000, seed)
    world.behaviours = [Behaviour() for _ in world.behaviours]
    broken = random.Random(seed).sample(range(1000), 10)
    for number in broken:
        world.behaviours[number].broken = True
    fleet = Fleet(world, slots, seed, passed_alone=broken)
    fleet.run()
    return fleet.doubts.spent / fleet.busy


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suites", type=int, default=200)
    parser.add_argument("--settle", type=float, default=None)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    count: Counter[str] = Counter()
    cost = []
    for seed in range(options.first, options.first + options.suites):
        chance = random.Random(seed)
        world = make_world(int(50 * 40 ** chance.random()), seed)
        slots = chance.choice([1, 2, 4, 8, 16])
        joins = sorted(chance.uniform(0, 20) for _ in range(chance.choice([0, 0, 3])))
        fleet = Fleet(
            world, slots, seed, budget=options.settle, deaths=chance.choice([0, 0, 0.02]),
            joins=joins,
        )  # fmt: skip
        machine = fleet.run()
        cost.append(fleet.doubts.spent / fleet.busy)
        expected, apart = world.sequential(), world.sequential(failures_leave=False)
        for index, verdict in machine.verdicts.items():
            count["tests"] += 1
            number = world.class_of[index]
            count.update(
                described(
                    verdict,
                    wanted_bad=expected[number],
                    wanted_bad_apart=apart[number],
                    seed=seed,
                )
            )
    for what, number in sorted(count.items()):
        print(f"{number:>9,}  {what}")
    print(
        f"slot-seconds for settling: median {median(cost):.1%}, most {max(cost):.1%} of the run's"
    )
    red = [ordinary_red_run(seed) for seed in range(5)]
    print(f"ten classes that fail for good: median {median(red):.1%}, most {max(red):.1%}")


if __name__ == "__main__":
    main()
