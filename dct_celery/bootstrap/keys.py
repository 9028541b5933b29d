"""The keys of this process, from its settings."""

from __future__ import annotations

from dct_celery.security.signing import Keyring
from dct_celery.settings import Settings


def keyring_of(settings: Settings) -> Keyring:
    """The first one signs."""
    return Keyring(settings.signing_keys)
