"""Signatures of what travels through store and broker: HMAC-SHA256 over canonical JSON, with the pool's key.

Without the key nobody can make a worker run anything, replay included: a replayed message loses at the claim.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from dct_celery.errors import ConfigError


def sign(body: Mapping[str, Any], key: str) -> str:
    """`body` as canonical JSON with its signature in the field "sig"."""
    unsigned = {name: value for name, value in body.items() if name != "sig"}
    text = _canonical(unsigned)
    # Not encoded a second time: a run's head is some hundred bytes per test.
    return f'{text[:-1]}{"," if unsigned else ""}"sig":"{_mac(text, key)}"}}'


def verify(text: str, key: str, *, what: str) -> dict[str, Any]:
    """The body, when its signature is right. Raises ConfigError that names `what` otherwise."""
    try:
        body = json.loads(text)
        signature = str(body.pop("sig"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(f"{what} is not signed JSON; it was not written by a dispatcher of ours") from None
    if not hmac.compare_digest(signature.encode(errors="surrogatepass"), _mac(_canonical(body), key).encode()):
        raise ConfigError(f"{what} carries another signature: DCT_SIGNING_KEY of dispatcher and worker must be the same")
    return dict(body)


def key_id(key: str) -> str:
    """Twelve hex digits by which two sides can see that their keys differ, without telling the key."""
    return hashlib.sha256(f"dct-key-id:{key}".encode()).hexdigest()[:12]


def _mac(text: str, key: str) -> str:
    return hmac.new(f"dct:{key}".encode(), text.encode(), hashlib.sha256).hexdigest()


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))
