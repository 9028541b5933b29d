"""The registry port on Redis: workers and runs of one pool, alive by the store's clock."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import redis

from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.redisstore.client import script, text, translating
from dct_celery.core import codec
from dct_celery.errors import Untrusted
from dct_celery.ports import STALL_MS, Announced, WorkerInfo
from dct_celery.protocol.door import Door, Rejects
from dct_celery.protocol.runs import Announcement
from dct_celery.security.signing import signed_by

T = TypeVar("T")
#: Longest entry that is read, in bytes; ours have a few hundred, a worker's with very many runs
#: some thousand.
_LONGEST = 64 * 1024
#: Most workers without our key that are reported.
_FOREIGN = 20
#: Milliseconds for which a signed entry stays valid beyond its life.
#: Life stands still while the store takes no writes, but the store's clock does not, and we wait
#: that long for a store. An entry can be replayed no longer than that, and for runs that a worker
#: has seen end, a replay has no effect.
_GRACE_MS = 180_000
#: Most keys that a worker signs with.
_MOST_KEYS = 8
#: A worker's name in Celery: name@host.
_NAME = re.compile(r"[\w.+@:%-]{1,300}")


@translating
class RedisRegistry:
    def __init__(self, client: redis.Redis, pool: str, door: Door, *, tends: bool = True) -> None:
        """`door` is the pool's. `tends`: see `ports.Registry`.

        True for processes that stay; False for one that reads the registry only once.
        """
        self._client = client
        self._door = door
        self._stall_ms = STALL_MS if tends else 0
        self._runs = list(keys.pool_runs(pool))
        self._workers = list(keys.pool_workers(pool))
        self._workers_before = list(keys.pool_workers_before(pool))
        self._turn = keys.pool_turn(pool)
        self._beat = script(client, "beat")
        self._present = script(client, "present")
        self._rejects = Rejects()
        self._complaints: list[str] = []
        #: By list: the parsed result for each text of the last read. The same texts are read many
        #: times a second.
        self._known: dict[str, dict[str, Any]] = {}

    # -- runs ----------------------------------------------------------------------------

    def announce(self, run: str, nonce: str, horizon_seconds: float, epoch: int = 1) -> None:
        self._register(
            self._runs,
            run,
            horizon_seconds,
            lambda expires_ms: Announcement(run, nonce, epoch, expires_ms),
        )

    def withdraw(self, run: str) -> None:
        self._forget(self._runs, run)

    def active_runs(self) -> dict[str, Announced]:
        now_ms, entries = self._alive(self._runs)
        found: dict[str, Announced] = {}
        for name, _, one in self._verified("runs", entries, self._announced):
            if isinstance(one, Untrusted):
                self._complain("the registry of runs", one)
            elif one.announcement.run != name:
                self._complain("the registry of runs", Untrusted("is another run's"))
            elif one.announcement.expires_ms < now_ms:
                self._complain("the registry of runs", Untrusted("has expired"))
            else:
                found[name] = one
        return found

    def _announced(self, entry: str) -> Announced:
        return Announced(self._door.unseal(Announcement, entry), signed_by(entry))

    def open_runs(self, turn_seconds: float) -> list[str]:
        if not self._client.set(self._turn, "", nx=True, px=int(turn_seconds * 1000)):
            return []
        names = [
            text(name) for name in self._client.scan_iter(match=keys.RunKeys("*").run, count=1000)
        ]
        runs = [name.partition("{")[2].partition("}")[0] for name in names]
        return [
            run
            for run in runs
            if text(self._client.hget(keys.RunKeys(run).run, "state")) != "closed"
        ]

    # -- workers -------------------------------------------------------------------------

    def beat(self, info: WorkerInfo, horizon_seconds: float) -> None:
        self._register(
            self._workers,
            info.name,
            horizon_seconds,
            lambda expires_ms: replace(info, expires_ms=expires_ms),
        )

    def leave(self, name: str) -> None:
        self._forget(self._workers, name)

    def workers(self) -> list[WorkerInfo]:
        now_ms, entries = self._alive(self._workers)
        found, foreign = [], []
        for name, entry, one in self._verified(
            "workers", entries, lambda text: self._door.unseal(WorkerInfo, text)
        ):
            if isinstance(one, Untrusted):
                self._complain("the registry of workers", one)
                foreign.append(_foreign(name, entry, str(one)))
            elif one.name != name or one.foreign:
                self._complain("the registry of workers", Untrusted("is another worker's"))
            elif one.expires_ms < now_ms:
                self._complain("the registry of workers", Untrusted("has expired"))
            else:
                found.append(one)
        # For users: for commands that read once, and for a run that finds no other worker.
        if not self._stall_ms or not found:
            foreign += [
                _older(name, entry)
                for name, entry in self._alive(self._workers_before, tends=False)[1]
            ]
        return (
            sorted(found, key=lambda info: info.name)
            + [info for info in foreign if info is not None][:_FOREIGN]
        )

    # -- both ----------------------------------------------------------------------------

    def complaints(self) -> list[str]:
        lines, self._complaints = self._complaints, []
        return lines

    def _complain(self, where: str, error: Untrusted) -> None:
        if line := self._rejects.note(where, error):
            self._complaints.append(line)

    def _verified(
        self, kind: str, entries: list[tuple[str, str]], read: Callable[[str], T]
    ) -> list[tuple[str, str, T | Untrusted]]:
        """(name, text, parsed text or error) of each entry.

        Entries that are unchanged since the last read are not parsed again.
        """
        before = self._known.get(kind, {})
        now: dict[str, Any] = {}
        for _, entry in entries:
            if entry not in now:
                now[entry] = before[entry] if entry in before else _first_good(entry, read)
        self._known[kind] = now
        return [(name, entry, now[entry]) for name, entry in entries]

    def _register(
        self, names: list[str], name: str, horizon_seconds: float, make: Callable[[int], object]
    ) -> None:
        # A heartbeat also tends the list, so that it is tended while any member is alive. The
        # answer has the store's clock.
        now_ms = int(self._present(keys=names, args=[self._stall_ms, 0, _LONGEST])[0])
        horizon_ms = int(horizon_seconds * 1000)
        message = make(now_ms + horizon_ms + _GRACE_MS)
        # One line for each key: a process that knows any of them must be able to verify it while
        # the pool changes its key.
        entry = "\n".join(
            replace(self._door, keyring=keyring).seal(message)
            for keyring in self._door.keyring.each()
        )
        self._beat(keys=names, args=[name, horizon_ms, entry])

    def _alive(self, names: list[str], *, tends: bool = True) -> tuple[int, list[tuple[str, str]]]:
        """The store's time (ms), and (name, text) of each entry."""
        now_ms, *flat = self._present(
            keys=names, args=[self._stall_ms if tends else 0, 1, _LONGEST]
        )
        return int(now_ms), [(text(flat[i]), text(flat[i + 1])) for i in range(0, len(flat), 2)]

    def _forget(self, names: list[str], name: str) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.zrem(names[0], name)
        pipe.hdel(names[1], name)
        pipe.hdel(names[2], name)
        pipe.execute()


def _first_good(entry: str, read: Callable[[str], T]) -> T | Untrusted:
    """The first of its lines that can be verified, or the last error."""
    error = Untrusted("is not signed")
    for line in entry.split("\n", _MOST_KEYS)[:_MOST_KEYS]:
        try:
            return read(line)
        except Untrusted as found:
            error = found
    return error


def _foreign(name: str, entry: str, reason: str) -> WorkerInfo | None:
    """A worker that has another key, or none.

    Of its entry only the fact that it exists is believed.
    """
    if not _NAME.fullmatch(name):
        return None
    return WorkerInfo(name, "", 0, "", 0, signed_by(entry), foreign=reason)


def _older(name: str, entry: str) -> WorkerInfo | None:
    """A worker of an earlier version, whose entries are not signed."""
    try:
        row = codec.loads(entry)
        version, protocol = codec.decoder(str)(row["version"]), codec.decoder(int)(row["protocol"])
    except (codec.Malformed, TypeError, KeyError):
        return None
    if not _NAME.fullmatch(name) or not re.fullmatch(r"[\w.+-]{1,40}", version):
        return None
    return WorkerInfo(name, "", 0, version, protocol, "", foreign=f"runs dct_celery {version}")
