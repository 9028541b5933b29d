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
from statistics import median

from dct_celery.core.model import BAD_OUTCOMES
from tests.support.order_world import Fleet, make_world


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
        expected = world.sequential()
        for index, verdict in machine.verdicts.items():
            bad, wanted = verdict.outcome in BAD_OUTCOMES, expected[world.class_of[index]]
            count["tests"] += 1
            noted = verdict.order
            if bad == wanted:
                count["right"] += 1
                if bad and noted and not noted.proven:
                    count["right, named as unproven"] += 1
            elif bad:
                count["wrongly bad, named" if noted else f"WRONGLY BAD, silent (seed {seed})"] += 1
            else:
                count["wrongly good" if noted else f"WRONGLY GOOD, silent (seed {seed})"] += 1
            if noted:
                count["order-dependent"] += 1
                count[f"  {noted.kind} {'' if noted.proven else '(unproven)'}"] += 1
    for what, number in sorted(count.items()):
        print(f"{number:>9,}  {what}")
    print(
        f"slot-seconds for settling: median {median(cost):.1%}, most {max(cost):.1%} of the run's"
    )


if __name__ == "__main__":
    main()
