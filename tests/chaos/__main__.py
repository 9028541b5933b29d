"""Proves that no fault costs a verdict: `python -m tests.chaos --runs 200 --seed 1`.

Each round runs the generated suite on three workers and strikes it with one to four faults, with
Redis or RabbitMQ as the broker (`--broker`); rounds of one broker are played together, as workers
begin anew with the other. A failed round prints its seed and the command that plays it again; at
the end comes a table by kind of fault. Exit code 1 when a round failed or a recovery took too long.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import table
from tests.chaos.faults import FAULTS
from tests.chaos.scene import VENDORS, can_make_hosts, has_rabbit, scene
from tests.chaos.schedule import BROKERS, order
from tests.chaos.session import LEASE, Session, choose


def main() -> int:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the scene is taken down then, too
    remote = can_make_hosts()
    names = options.kinds.split(",") if options.kinds else []
    kinds = {broker: choose(names, remote=remote, broker=broker) for broker in BROKERS}
    broker = _broker(options.broker, [broker for broker in BROKERS if kinds[broker]])
    seeds = (
        [options.replay]
        if options.replay is not None
        else [options.seed + number for number in range(options.runs)]
    )
    again = f"python -m tests.chaos --broker {broker} --lease {options.lease:g}"
    again += f" --backend {options.backend}" + (f" --kinds {options.kinds}" if names else "")
    evidence = options.evidence or Path(tempfile.mkdtemp(prefix="dct-chaos-evidence-"))
    vendors = VENDORS if len(seeds) > 1 else [VENDORS[seeds[0] % 2]]
    with scene(
        lease=options.lease, vendors=vendors, remote=remote, backend=options.backend
    ) as made:
        session = Session(made, kinds, again, evidence, broker)
        session.warm_up()
        print(
            f"a fault-free round takes {session.usual:.1f} s, a lease {options.lease:g} s",
            flush=True,
        )
        began = time.monotonic()
        for seed in order(seeds, broker):
            session.play(seed)
            if options.minutes and time.monotonic() - began > options.minutes * 60:
                break
        session.settle()
    return _summary(session)


def _broker(wanted: str, possible: Sequence[str]) -> str:
    """SystemExit when no kind of fault is left for it."""
    wanted = wanted or ("mixed" if has_rabbit() else "redis")
    if wanted == "mixed" and len(possible) == 1:
        return possible[0]
    if wanted not in possible and (wanted != "mixed" or not possible):
        raise SystemExit(f"none of these kinds of faults strikes with --broker {wanted}")
    return wanted


def _summary(session: Session) -> int:
    rounds = [outcome for outcome in session.outcomes if outcome.seconds]
    print("\n".join(["", *table.table(rounds), ""]))
    late = table.recovery_problems(rounds)
    for problem in late:
        print(f"above the bar: {problem}")
    reruns, refused = sum(o.reruns for o in rounds), sum(o.refused for o in rounds)
    print(
        f"{len(rounds)} rounds, {len(session.failed)} failed, {reruns} tests run again, "
        f"{refused} stale writes refused"
    )
    if session.failed:
        print(
            f"failed seeds: {', '.join(map(str, session.failed))}; again: "
            f"{session.again} --replay SEED"
        )
    return int(bool(session.failed or late))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{Path(sys.executable).name} -m tests.chaos", description=__doc__
    )
    parser.add_argument(
        "--runs", type=int, default=10, help="rounds; each has the seed of the one before plus one"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=int, metavar="SEED", help="one round alone")
    parser.add_argument(
        "--kinds",
        default="",
        help=f"only these kinds of faults, comma between: {', '.join(FAULTS)}",
    )
    broker = (
        "the broker; mixed: every third seed on RabbitMQ; default: "
        "mixed where rabbitmq-server is installed, else redis"
    )
    parser.add_argument("--broker", choices=[*BROKERS, "mixed"], default="", help=broker)
    parser.add_argument(
        "--backend", choices=["django", "pytest"], default="django", help="what runs the tests"
    )
    parser.add_argument("--lease", type=float, default=LEASE, help="seconds of a lease")
    parser.add_argument("--minutes", type=float, default=0.0, help="no round begins after so many")
    parser.add_argument("--evidence", type=Path, help="folder for what failed rounds leave")
    return parser


if __name__ == "__main__":
    sys.exit(main())
