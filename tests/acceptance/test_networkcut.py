"""A worker whose network is cut runs on, and takes work again soon after.

Needs root: the worker has a network of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from dct_celery.adapters.embedded import EmbeddedValkey
from tests.acceptance.stream import chunks
from tests.benchmarks.hosts import Host, Network, network
from tests.conftest import SERVER_ENVIRONMENT, started
from tests.support.fleet import Fleet, Running, until
from tests.support.projects import make_project, sleeping
from tests.support.rabbitmq import EmbeddedRabbitMQ


@pytest.fixture
def hosts() -> Iterator[Network]:
    missing = [
        name
        for name in ("ip", "iptables")
        if not shutil.which(name, path="/usr/sbin:/sbin:" + os.environ["PATH"])
    ]
    if os.geteuid() != 0 or missing:
        pytest.skip(
            f"cutting a network needs root{', and ' + ' and '.join(missing) if missing else ''}"
        )
    with ExitStack() as stack:
        try:
            found = stack.enter_context(network(["dct-cut"]))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network of our own may be made here: {error}")
        yield found


def cut(host: Host, seconds: float) -> None:
    """Nothing goes in or out, silently."""
    for action in ("-A", "-D"):
        for chain in ("INPUT", "OUTPUT"):
            rule = [
                "iptables",
                "-w",
                action,
                chain,
                "-o" if chain == "OUTPUT" else "-i",
                "eth0",
                "-j",
                "DROP",
            ]
            subprocess.run(["ip", "netns", "exec", host.namespace, *rule], check=True)
        if action == "-A":
            time.sleep(seconds)


@dataclass
class Watched:
    """A fleet with one run under way."""

    broker: str
    fleet: Fleet
    running: Running

    def events(self, kind: str) -> list[str]:
        """The chunk of each."""
        return chunks(self.fleet, self.running, kind)

    def wait_for_claims(self, count: int) -> float:
        def there() -> bool:
            assert self.running.process.poll() is None, self.running.finish()
            return len(self.events("claimed")) >= count

        return until(there, 40, what=f"claims of the worker on {self.broker}")


def live_again(runs: list[Watched], host: Host, seconds: float) -> None:
    """Cuts and heals; every worker takes work within 10 s."""
    cut(host, seconds)
    # Of three claims, no more than two are of messages that had come before the cut.
    counts = [len(run.events("claimed")) + 3 for run in runs]
    took: dict[str, float] = {}

    def wait(run: Watched, count: int) -> None:
        took[run.broker] = run.wait_for_claims(count)

    threads = [threading.Thread(target=wait, args=pair) for pair in zip(runs, counts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"cut for {seconds:g} s; third claim after it: {took}")
    assert set(took) == {run.broker for run in runs}
    assert max(took.values()) < 10, took


def test_a_worker_takes_work_again_soon_after_a_cut_and_no_test_runs_twice(
    hosts: Network, tmp_path: Path
) -> None:
    # Given the same run on either broker, both workers on one host
    (host,) = hosts.hosts
    with ExitStack() as stack:
        store = stack.enter_context(
            started(
                lambda: EmbeddedValkey.start(
                    tmp_path / "store", bind=hosts.address, environ=SERVER_ENVIRONMENT
                )
            )
        )
        rabbit = stack.enter_context(
            started(
                lambda: EmbeddedRabbitMQ.start(
                    tmp_path / "rabbit", bind=hosts.address, environ=SERVER_ENVIRONMENT
                )
            )
        )
        runs = []
        for name, broker in (("redis", ""), ("rabbitmq", rabbit.url)):
            fleet = stack.enter_context(Fleet(tmp_path / name, store.url, broker=broker))
            fleet.worker(host=host.command, DCT_LEASE_SECONDS="30")
            project = make_project(tmp_path / f"{tmp_path.name}-{name}", sleeping(36, 2, 0.25))
            runs.append(Watched(name, fleet, fleet.start(project, "--chunk-seconds", "0.1")))
        for run in runs:
            run.wait_for_claims(2)
        # When
        live_again(runs, host, 3)
        live_again(runs, host, 20)
        # Then
        for run in runs:
            finished = run.running.finish()
            assert finished.code == 0, finished
            assert list(finished.outcomes().values()) == ["passed"] * 72
            claimed = run.events("claimed")
            assert len(claimed) == len(set(claimed)), "the lease of 30 s is longer than the cut"
            assert not run.events("expired")
