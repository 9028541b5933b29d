"""An attacker who has the store's password, and none of the pool's keys."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from dct_celery.protocol import PROTOCOL_VERSION
from tests.support.fleet import Fleet


@dataclass
class Recording:
    """What the store held of a run: its keys, its registry entry, the messages in its queue."""

    run: str
    values: dict[bytes, bytes] = field(default_factory=dict)
    announced: bytes = b""
    messages: list[bytes] = field(default_factory=list)


class Attacker:
    """Reads and writes whatever it likes in the store of one fleet, which is its broker, too."""

    def __init__(self, fleet: Fleet) -> None:
        self.client: Any = redis.Redis.from_url(fleet.store)
        self._registry = f"dct:{{{fleet.name}}}:{PROTOCOL_VERSION}:"

    # -- runs --------------------------------------------------------------------------------

    def run_key(self, run: str, name: str) -> str:
        return f"dct:{{{run}}}:{name}"

    def wait_for(self, run: str, name: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.client.exists(self.run_key(run, name)):
            assert time.monotonic() < deadline, f"{name} of {run} did not come"
            time.sleep(0.01)

    def fields(self, run: str) -> dict[bytes, bytes]:
        return self.client.hgetall(self.run_key(run, "run"))

    def stream(self, run: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return self.client.xrange(self.run_key(run, "events"))

    def add_entry(self, run: str, **fields: Any) -> None:
        self.client.xadd(self.run_key(run, "events"), fields)

    def chunks(self, run: str) -> list[bytes]:
        return list(self.client.scan_iter(self.run_key(run, "chunk:*").replace("{", r"\{")))

    # -- the registry ------------------------------------------------------------------------

    def announce(
        self, name: bytes | str, says: bytes | str, kind: str = "runs", seconds: float = 3600
    ) -> None:
        base = self._registry + kind
        self.client.zadd(base, {name: int((time.time() + seconds) * 1000)})
        self.client.hset(f"{base}:info", name, says)
        self.client.hset(f"{base}:horizons", name, int(seconds * 1000))

    def forget(self, name: str, kind: str = "runs") -> None:
        base = self._registry + kind
        self.client.zrem(base, name)
        self.client.hdel(f"{base}:info", name)

    # -- replay ------------------------------------------------------------------------------

    def record(self, run: str, into: Recording | None = None) -> Recording:
        """All that is there of the run; what an earlier recording has stays in it."""
        found = into or Recording(run)
        for key in self.client.scan_iter(f"*{run}*", count=10_000):
            if (value := self.client.dump(key)) is not None:
                found.values[key] = value
            if b"dct.run." in key:
                with contextlib.suppress(redis.ResponseError):
                    found.messages += self.client.lrange(key, 0, -1)
        found.announced = self.client.hget(f"{self._registry}runs:info", run) or found.announced
        return found

    def replay(self, recording: Recording, *, run: str = "") -> None:
        """Puts it back, as it was or under another run's name."""
        old, new = recording.run.encode(), (run or recording.run).encode()
        for key, value in recording.values.items():
            self.client.restore(key.replace(old, new), 600_000, value, replace=True)
        self.client.hset(
            self.run_key(new.decode(), "run"),
            mapping={"state": "open", "reaped": int(time.time() * 1000)},
        )
        for chunk in self.chunks(new.decode()):
            self.client.hset(chunk, "state", "queued")
        self.announce(new, recording.announced)
        for message in recording.messages:
            self.client.lpush(f"dct:dct.run.{new.decode()}", message.replace(old, new))


@contextlib.contextmanager
def going_on(act: Callable[[], object], pause: float = 0.02) -> Iterator[None]:
    """Does this again and again meanwhile; what the store refuses is no matter."""
    end = threading.Event()

    def repeat() -> None:
        while not end.wait(pause):
            with contextlib.suppress(redis.RedisError, AssertionError):
                act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(5.0)
