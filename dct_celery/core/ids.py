"""Which texts from outside may become part of a path or key.

Each kind of id has its own pattern, and nothing else passes. Run ids come from the registry and
from messages, digests from the run's specification, chunk ids from the ledger.
"""

from __future__ import annotations

import hashlib
import re

RUN_ID = r"[a-z0-9][a-z0-9-]{5,25}"
RUN_ID_RULE = '6 to 26 of a-z, 0-9, "-", not starting with "-"'
_RUN_ID = re.compile(RUN_ID)
#: Name of a file that a worker sends back.
ARTIFACT = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
CHUNK_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
DIGEST = r"[0-9a-f]{40}"
_CHUNK_ID = re.compile(CHUNK_ID)
_DIGEST = re.compile(DIGEST)
#: A template's key: the beginning or all of a SHA-256.
_KEY = re.compile(r"[0-9a-f]{16,64}")
#: Name of a Celery worker, such as build-a@host.
_WORKER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+%:-]{0,199}")


def is_run_id(text: object) -> bool:
    return _matches(_RUN_ID, text)


def is_chunk_id(text: object) -> bool:
    return _matches(_CHUNK_ID, text)


def is_digest(text: object) -> bool:
    return _matches(_DIGEST, text)


def is_template_key(text: object) -> bool:
    return _matches(_KEY, text)


def is_worker_name(text: object) -> bool:
    return _matches(_WORKER, text)


def digest_of(content: bytes) -> str:
    """BLAKE2b of the content, 40 hexadecimal digits.

    It names a blob, and a tree by its index.
    """
    return hashlib.blake2b(content, digest_size=20).hexdigest()


def _matches(pattern: re.Pattern[str], text: object) -> bool:
    # fullmatch, because "$" would accept a newline at the end.
    return isinstance(text, str) and pattern.fullmatch(text) is not None
