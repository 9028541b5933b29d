"""The registry port on Redis: workers and runs of one pool, alive by the store's clock."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import redis

from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.redisstore.client import script, text, translating
from dct_celery.ports import STALL_MS, WorkerInfo


@translating
class RedisRegistry:
    def __init__(self, client: redis.Redis, pool: str, *, tends: bool = True) -> None:
        """`tends`: for those who are there for long; False for a single look, see `ports.Registry`."""
        self._client = client
        self._stall_ms = STALL_MS if tends else 0
        self._runs = list(keys.pool_runs(pool))
        self._workers = list(keys.pool_workers(pool))
        self._turn = keys.pool_turn(pool)
        self._beat = script(client, "beat")
        self._present = script(client, "present")

    def announce(self, run: str, horizon_seconds: float, epoch: int = 1) -> None:
        self._say(self._runs, run, horizon_seconds, json.dumps({"epoch": epoch}))

    def withdraw(self, run: str) -> None:
        self._forget(self._runs, run)

    def active_runs(self) -> dict[str, int]:
        return {name: int(json.loads(info).get("epoch", 1)) for name, info in self._alive(self._runs)}

    def open_runs(self, turn_seconds: float) -> list[str]:
        if not self._client.set(self._turn, "", nx=True, px=int(turn_seconds * 1000)):
            return []
        names = [text(name) for name in self._client.scan_iter(match=keys.RunKeys("*").run, count=1000)]
        runs = [name.partition("{")[2].partition("}")[0] for name in names]
        return [run for run in runs if text(self._client.hget(keys.RunKeys(run).run, "state")) != "closed"]

    def beat(self, info: WorkerInfo, horizon_seconds: float) -> None:
        self._say(self._workers, info.name, horizon_seconds, json.dumps(asdict(info)))

    def leave(self, name: str) -> None:
        self._forget(self._workers, name)

    def workers(self) -> list[WorkerInfo]:
        found = []
        for _, info in self._alive(self._workers):
            try:
                found.append(WorkerInfo(**json.loads(info)))
            except (ValueError, TypeError):
                continue  # a worker of a version that says other things of itself
        return found

    def _say(self, names: list[str], name: str, horizon_seconds: float, info: str) -> None:
        # Who beats tends, so that the list is tended while anybody is there.
        self._present(keys=names, args=[self._stall_ms, 0])
        self._beat(keys=names, args=[name, int(horizon_seconds * 1000), info])

    def _alive(self, names: list[str]) -> list[tuple[str, str]]:
        flat: Any = self._present(keys=names, args=[self._stall_ms, 1])
        return [(text(flat[i]), text(flat[i + 1])) for i in range(0, len(flat), 2)]

    def _forget(self, names: list[str], name: str) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.zrem(names[0], name)
        pipe.hdel(names[1], name)
        pipe.hdel(names[2], name)
        pipe.execute()
