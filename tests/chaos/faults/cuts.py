"""Cuts of the network: every packet is dropped, for half a lease or for three.

It is the network between a server and the remote worker, or the dispatcher.
"""

from __future__ import annotations

import subprocess
from abc import abstractmethod
from typing import ClassVar

from tests.benchmarks.hosts import Host
from tests.chaos.faults.base import Fault, Meets, Outage

SHORT, LONG = 0.5, 3.0


class _Cut(Outage):
    remote = True
    part = "network"
    length: ClassVar[float] = SHORT

    @property
    @abstractmethod
    def port(self) -> int: ...

    @property
    def host(self) -> Host | None:
        """Who is cut off."""
        return self.worker.host

    @property
    def seconds(self) -> float:
        return self.length * self.scene.lease

    def down(self) -> None:
        self._filter("-A")

    def up(self) -> None:
        self._filter("-D")

    def _filter(self, verb: str) -> None:
        host = self.host
        assert host is not None
        for chain, side in (("OUTPUT", "--dport"), ("INPUT", "--sport")):
            rule = ["iptables", "-w", verb, chain, "-p", "tcp", side, str(self.port), "-j", "DROP"]
            subprocess.run(
                ["ip", "netns", "exec", host.namespace, *rule], check=True, stdin=subprocess.DEVNULL
            )


class CutStoreShort(_Cut):
    name = "cut-store-short"

    @property
    def port(self) -> int:
        return self.scene.store.port


class CutStoreLong(CutStoreShort):
    """Beyond the lease: others take over, so recovery counts from the cut."""

    name = "cut-store-long"
    length = LONG
    losing = True
    stalling = True
    outage = False


class CutBrokerShort(_Cut):
    name = "cut-broker-short"
    meets = Meets.CLAIMS

    @property
    def port(self) -> int:
        return self.scene.broker_port


class CutBrokerLong(CutBrokerShort):
    name = "cut-broker-long"
    length = LONG


class CutDatabaseShort(_Cut):
    name = "cut-database-short"
    stalling = True

    @property
    def port(self) -> int:
        return self.scene.database.port


class CutDatabaseLong(CutDatabaseShort):
    name = "cut-database-long"
    length = LONG
    losing = True


class CutDispatcherShort(_Cut):
    """The dispatcher cannot reach the store, all other processes can."""

    name = "cut-dispatcher-short"
    part = "dispatcher"
    meets = Meets.JOURNAL

    @property
    def port(self) -> int:
        return self.scene.store.port

    @property
    def host(self) -> Host | None:
        return self.scene.dispatcher_host


class CutDispatcherLong(CutDispatcherShort):
    name = "cut-dispatcher-long"
    length = LONG


KINDS: tuple[type[Fault], ...] = (
    CutStoreShort,
    CutStoreLong,
    CutBrokerShort,
    CutBrokerLong,
    CutDatabaseShort,
    CutDatabaseLong,
    CutDispatcherShort,
    CutDispatcherLong,
)
