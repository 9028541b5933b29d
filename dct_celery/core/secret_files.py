"""Which files look like secrets or private data: a run warns before it sends them to workers."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

#: Patterns of names, in lower case.
_NAMES = (
    ".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".my.cnf", ".pypirc",
    ".git-credentials", ".htpasswd", ".dockercfg", ".vault-token",
    "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
    "*.kdbx", "*.kdb", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.ppk",
    "credentials.json", "client_secret*.json", "service-account*.json", "service_account*.json",
    "secrets.json", "secrets.toml", "secrets.yml", "secrets.yaml", "*.tfstate",
    "db.sqlite3", "*.dump", "*.dump.gz", "dump.sql", "dump.sql.gz", "*.pgdump", "*.rdb",
)  # fmt: skip
#: Ends of whole paths.
_PATHS = (
    ".aws/credentials",
    ".docker/config.json",
    ".kube/config",
    ".ssh/config",
    ".config/gcloud/application_default_credentials.json",
)
#: Examples without values, which projects keep in their repositories on purpose.
_EXAMPLES = (
    "*.example",
    "*.sample",
    "*.template",
    "*.dist",
    "*.tmpl",
    "example.env",
    "sample.env",
    "template.env",
)
#: May hold a certificate or a key: the content decides.
_KEYS = ("*.pem", "*.key", "*.pk8", "*.asc")
#: Number of bytes at the start of a file that `is_private_key` needs.
HEAD = 4096
#: How many files a warning names.
_SHOWN = 5


def looks_secret(path: str) -> bool:
    """Judged by its name. `path`: POSIX, from the root."""
    lower = path.lower()
    name = lower.rpartition("/")[2]
    if any(fnmatchcase(name, pattern) for pattern in _EXAMPLES):
        return False
    return any(fnmatchcase(name, pattern) for pattern in _NAMES) or any(
        f"/{lower}".endswith(f"/{end}") for end in _PATHS
    )


def may_be_key(path: str) -> bool:
    """Whether `is_private_key` must be asked."""
    name = path.lower().rpartition("/")[2]
    return any(fnmatchcase(name, pattern) for pattern in _KEYS)


def is_private_key(head: bytes) -> bool:
    """Judged by the first `HEAD` bytes of a file."""
    return b"PRIVATE KEY" in head


def warning(paths: Sequence[str]) -> str:
    """One line about the files that a run is going to send; empty for none."""
    if not paths:
        return ""
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    verb = "look" if len(paths) > 1 else "looks"
    return (
        f"{', '.join(paths[:_SHOWN])}{more} {verb} like secrets and will be sent to the workers;"
        " leave out what tests do not need (exclude in [tool.dct], --exclude), or name in include"
        " what is meant to be sent"
    )
