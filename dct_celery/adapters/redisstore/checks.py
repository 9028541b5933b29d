"""Whether a server can be used as a store.

Judged by INFO, which managed servers allow even where CONFIG GET is forbidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dct_celery.errors import StoreRefused

#: The oldest server whose commands and Lua suffice.
OLDEST = (6, 2)
#: Least memory in bytes. A run of 100,000 tests and its snapshot need less; with less than this, a
#: run is likely to run out of memory.
LEAST_MEMORY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checked:
    """A usable store: its version, and warnings about what could not be found out.

    The version is "" where the server does not report it.
    """

    version: str
    warnings: tuple[str, ...] = ()
    #: The output of INFO.
    info: Mapping[str, Any] = field(default_factory=dict)


def judge(info: Mapping[str, Any], where: str) -> Checked:
    """Raises StoreRefused if the server cannot be used.

    `info`: all of INFO, empty where it is forbidden; `where` names server and origin.
    """
    for unfit in _refusals(info, where):
        raise StoreRefused(unfit)
    return Checked(str(info.get("redis_version", "")), tuple(_unknowns(info, where)), info)


def _refusals(info: Mapping[str, Any], where: str) -> Iterator[str]:
    version = _version(info)
    if version and version < OLDEST:
        yield f"{where} is version {info['redis_version']}; use Redis or Valkey 6.2 or newer"
    if info.get("role") == "slave":
        primary = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        yield (
            f"{where} is a replica, which refuses or loses what is written to it; "
            f"name its primary, {primary}"
        )
    policy = str(info.get("maxmemory_policy") or "noeviction")
    if policy != "noeviction":
        # volatile-* as well: every key of ours has a lifetime.
        text = f"{where} forgets keys of a run when its memory is full (maxmemory-policy {policy})"
        yield f"{text}; CONFIG SET maxmemory-policy noeviction there, or use a server of its own"
    limit = int(info.get("maxmemory") or 0)
    if 0 < limit < LEAST_MEMORY:
        text = (
            f"{where} may use {limit / 2**20:.1f} MB of memory (maxmemory), "
            f"a run needs {LEAST_MEMORY // 2**20} MB"
        )
        yield f"{text}; CONFIG SET maxmemory 256mb there, or use a server of its own"


def _unknowns(info: Mapping[str, Any], where: str) -> Iterator[str]:
    if not _version(info):
        yield f"{where} does not say its version; make sure that it is 6.2 or newer"
    if not info.get("maxmemory_policy"):
        yield f"{where} does not say its maxmemory-policy; make sure that it is noeviction"


def _version(info: Mapping[str, Any]) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", str(info.get("redis_version", "")))
    return (int(found[1]), int(found[2])) if found else None
