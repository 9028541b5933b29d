"""Whether our user may run every command that we need on the server.

This is found out at the start, by running them on a key that nothing else uses. `docs/security.md`
lists the least rights, and a test runs with them.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import redis

from dct_celery.adapters.redisstore.keys import PREFIX

FIX = 'give that user the rights of "Least rights" in docs/security.md'
#: Every command that we run on a store, in scripts too, and that kombu runs on a broker; {key} is a
#: key that nothing else uses.
STORE = (
    "SET {key} 1 EX 5", "GET {key}", "MGET {key}", "EXISTS {key}", "EXPIRE {key} 5", "TTL {key}",
    "DEL {key}", "HSET {key} a 1", "EXPIRE {key} 5", "HGET {key} a", "HMGET {key} a",
    "HGETALL {key}", "HINCRBY {key} a 1", "HDEL {key} a", "ZADD {key} 1 a", "EXPIRE {key} 5",
    "ZRANGE {key} 0 1", "ZRANGEBYSCORE {key} 0 1", "ZREMRANGEBYSCORE {key} 0 0", "ZREM {key} a",
    "XADD {key} * a 1", "EXPIRE {key} 5", "XREAD COUNT 1 STREAMS {key} 0", "DEL {key}", "TIME",
    "SCAN 0 COUNT 1", "SCRIPT LOAD return", "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
    "PING",
)  # fmt: skip
BROKER = (
    "LPUSH {key} 1", "PEXPIRE {key} 5000", "LLEN {key}", "BRPOP {key} 0.01", "RPOP {key}", "MULTI",
    "EXEC", "DEL {key}", "SET {key} 1 EX 5", "GET {key}", "EXPIRE {key} 5", "DEL {key}", "PING",
)  # fmt: skip


def prove(client: redis.Redis, commands: Sequence[str]) -> None:
    """Runs the commands in one round trip.

    Raises NoPermissionError, which names the command, or says that the key is not allowed.
    """
    key = f"{PREFIX}{{rights-{secrets.token_hex(6)}}}"
    pipe: Any = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command.format(key=key).split(" "))
    for command, answer in zip(commands, pipe.execute(raise_on_error=False), strict=True):
        # Other errors (no memory, a replica) are reported elsewhere.
        if "NOPERM" in str(answer) or isinstance(answer, redis.exceptions.NoPermissionError):
            name = command.partition(" ")[0]
            raise redis.exceptions.NoPermissionError(f"no right to {name} keys {PREFIX}*")
