"""The keys of this process, from its settings."""

from __future__ import annotations

from dct_celery.errors import ConfigError
from dct_celery.security.signing import Keyring
from dct_celery.settings import Settings

#: What `--insecure` says at every start.
INSECURE = (
    "--insecure: there is no signing key, so whoever can write to the store can run code on the"
    " workers and forge results"
)


def keyring_of(settings: Settings, *, required: bool = True) -> Keyring:
    """The first key signs. Raises ConfigError without any, unless the user wants it so or only
    looks (`required`).
    """
    if required and not settings.signing_keys and not settings.insecure:
        raise ConfigError(
            "no signing key is set: make one with dct keygen --out FILE, and set"
            " DCT_SIGNING_KEY_FILE to it here and on every worker (or go without: --insecure,"
            " DCT_INSECURE=1); a run on this machine alone, with --local, needs none"
        )
    return Keyring(settings.signing_keys)
