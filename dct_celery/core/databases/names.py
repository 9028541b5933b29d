"""Names of databases and queues: only `[a-z0-9_]`, at most 63 bytes, never used twice.

PostgreSQL silently cuts longer names, when it creates a database and when it connects: a name that
is one byte too long would be another database. What does not fit is replaced by a hash of the whole
text.
"""

from __future__ import annotations

import hashlib
import re

#: Every database that we make matches this; others are never dropped.
OURS = re.compile(r"^test_[a-z0-9_]{3,58}\Z")
MAX_BYTES = 63
#: Our database for what belongs to no run; never collected. It holds marks on servers that cannot
#: comment on a database (MySQL, MariaDB), and locks on PostgreSQL if we may not connect to the
#: database `postgres`.
REGISTRY = "test_dct_registry"
_UNSAFE = re.compile(r"[^a-z0-9]+")
#: End of a hashed name. Text that ends like this by itself is hashed as well, or it could equal the
#: hash of another.
_HASHED = re.compile(r"(^|_)[0-9a-f]{6}\Z")


def slug(text: str, length: int) -> str:
    """`text` in `[a-z0-9_]`, at most `length` characters, with a hash where anything was lost."""
    clean = _UNSAFE.sub("_", text.lower()).strip("_")
    if clean == text and len(clean) <= length and not _HASHED.search(text):
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{clean[: length - 7].strip('_')}_{digest}".strip("_")


def clone_name(worker: str, slot: int | str, run: str, alias: str, number: int) -> str:
    """`test_<worker>_<slot>_<run>_<alias>_<n>`.

    `number` never repeats within a slot, so no name is used twice (I6).
    """
    name = f"test_{slug(worker, 14)}_{slot}_{run_token(run)}_{slug(alias, 12)}_{number}"
    assert OURS.match(name), name
    assert len(name) <= MAX_BYTES, name
    return name


def template_name(fingerprint: str, alias: str, *, flushed: bool, project: str = "") -> str:
    """`test_dct_<t|f>_<fingerprint>_<alias>[_<project>]`; `fingerprint` is hex."""
    name = f"test_dct_{'f' if flushed else 't'}_{fingerprint[:16]}_{slug(alias, 16)}"
    if project:
        name += f"_{slug(project, 18)}"
    assert OURS.match(name), name
    assert len(name) <= MAX_BYTES, name
    return name


def ownership_limit(name: str) -> int:
    """The CONNECTION LIMIT of a PostgreSQL database of this name, if we make it.

    Far beyond any server's limit, it marks a database as ours from CREATE DATABASE on; the comment
    comes one statement later.
    """
    digest = hashlib.sha256(f"dct:{name}".encode()).digest()
    return 1_000_000_000 + int.from_bytes(digest[:4], "big") % 1_000_000_000


def run_token(run: str) -> str:
    """Eight characters that stand for the run in names."""
    return hashlib.sha256(run.encode()).hexdigest()[:8]


def queue_name(run: str) -> str:
    return f"dct.run.{run}"
