"""What host names resolve to on this machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

#: Names resolved in parallel: a name server that does not answer costs its time-out only once.
_AT_ONCE = 16
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


def resolve(hosts: Iterable[str]) -> dict[str, frozenset[str]]:
    """Maps each host to its addresses; none for a name that is unknown here.

    An address of this machine stands for all addresses of this machine: "localhost" and the
    machine's name are one server.
    """
    wanted = sorted(set(hosts))
    if not wanted:
        return {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(wanted, pool.map(_addresses, wanted), strict=True))


def _addresses(host: str) -> frozenset[str]:
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    found = frozenset(_plain(str(row[4][0])) for row in rows)
    return found | _LOOPBACK if any(map(_is_ours, found)) else found


def _plain(address: str) -> str:
    """The address without a zone; an IPv4 address mapped into IPv6 as IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def _is_ours(address: str) -> bool:
    """Whether a socket can be bound to the address; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
