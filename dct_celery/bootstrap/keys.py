"""The keys of this process, from its settings."""

from __future__ import annotations

from dct_celery.security.signing import Keyring
from dct_celery.settings import Settings


def keyring_of(settings: Settings) -> Keyring:
    """Several keys are separated by blanks or lines; the first one signs."""
    return Keyring(tuple((settings.signing_key or "").split()))
