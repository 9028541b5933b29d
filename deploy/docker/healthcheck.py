"""Health of a worker in its container: its beat stands in the store. Imports no Celery; costs about
0.1 s of CPU.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from dct_celery.adapters.redisstore.client import connect
from dct_celery.adapters.redisstore.registry import RedisRegistry
from dct_celery.errors import DctError
from dct_celery.settings import load


def main() -> int:
    """0 when a worker of this host is alive by the store's clock; else 1, the reason on stderr."""
    try:
        settings, _ = load({}, env=os.environ, cwd=Path.cwd())
        workers = RedisRegistry(
            connect(settings.store, retries=0), settings.pool, tends=False
        ).workers()
    except DctError as error:
        print(error, file=sys.stderr)
        return 1
    if any(worker.host == socket.gethostname() for worker in workers):
        return 0
    print(f"no worker of this host in pool {settings.pool!r}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
