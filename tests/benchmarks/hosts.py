"""Owns two hosts on one machine.

Network namespaces on a bridge, each with an address and a host name of its own.

Needs root and iproute2. In a host, the folders named as hidden are covered by an empty file system,
so that what a worker knows of the project is what came over the wire.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Host:
    """One network namespace. `name` is what its processes see as host name."""

    name: str
    namespace: str
    address: str

    def command(self, argv: Sequence[str], hidden: Sequence[Path] = ()) -> list[str]:
        """`argv` as it runs inside; the process keeps the pid, so signals reach it."""
        covers = [f"mount -t tmpfs -o size=1m none {shlex.quote(str(path))}" for path in hidden]
        script = " && ".join([f"hostname {self.name}", *covers, 'exec "$@"'])
        return [
            "ip",
            "netns",
            "exec",
            self.namespace,
            "unshare",
            "--uts",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            *argv,
        ]


@dataclass(frozen=True, slots=True)
class Network:
    """The bridge's address, where store and database server listen, and the hosts behind it."""

    address: str
    hosts: tuple[Host, ...]


@contextlib.contextmanager
def network(names: Sequence[str] = ("dct-a", "dct-b")) -> Iterator[Network]:
    """The hosts, removed with the bridge at the end.

    Raises CalledProcessError without the rights to make them.
    """
    tag, subnet = _free()
    bridge = f"dctbr{tag}"
    hosts = tuple(
        Host(name, f"{name}-{tag}", f"{subnet}.{number}")
        for number, name in enumerate(names, start=2)
    )
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{subnet}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number, host in enumerate(hosts):
            _join(host, bridge, f"dct{number}{tag}")
        yield Network(f"{subnet}.1", hosts)
    finally:
        for host in hosts:
            _ip("netns", "del", host.namespace, check=False)
        _ip("link", "del", bridge, check=False)


def _free() -> tuple[str, str]:
    """A tag for names and an address prefix that no other network of ours here uses.

    The prefix is the first three numbers of an IPv4 address.
    """
    shown = subprocess.run(
        ["ip", "-4", "-o", "addr"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    while True:
        tag = secrets.token_hex(2)
        subnet = f"10.213.{int(tag, 16) % 250 + 1}"
        if f" {subnet}." not in shown:
            return tag, subnet


def _join(host: Host, bridge: str, port: str) -> None:
    _ip("netns", "add", host.namespace)
    _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip("link", "set", port, "master", bridge)
    _ip("link", "set", port, "up")
    for words in (
        ["addr", "add", f"{host.address}/24", "dev", "eth0"],
        ["link", "set", "eth0", "up"],
        ["link", "set", "lo", "up"],
    ):
        _ip("-n", host.namespace, *words)


def _ip(*words: str, check: bool = True) -> None:
    quiet = None if check else subprocess.DEVNULL
    subprocess.run(["ip", *words], check=check, stderr=quiet, env={**os.environ, "LC_ALL": "C"})
