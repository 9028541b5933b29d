"""The guards: which configured databases tests must never come near.

Nothing here is about the databases that we make; those have names, marks and checks of their own (`core.names`, `core.marks`).
The guards look at what the project has configured, before anything is published or created. Pure.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

from dct_celery.errors import ConfigError

#: Words that say production wherever they stand in a name. Not "master", "main", "product": too many innocent names have them.
_ANYWHERE = frozenset({"prod", "production", "prd", "preprod", "preproduction", "staging", "stg"})
#: Words that say so only as the first or last word ("shop_live"), or only as the last ("shop_stage"): elsewhere they are
#: part of what the project is about ("shop_live_chat", "stage_plays").
_EITHER_END = frozenset({"live"})
_AT_END = frozenset({"stage"})
#: A last word that takes all of it back: "staging_area_tests", "prod_dev".
_HARMLESS = frozenset({"test", "tests", "testing", "dev", "development", "local", "ci"})
_ENVIRONMENTS = _ANYWHERE | _EITHER_END | _AT_END
_SEPARATOR = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")
_LOCAL = frozenset({"", "localhost", "127.0.0.1", "::1"})
_PORTS = {"postgresql": "5432", "mysql": "3306"}
#: PostgreSQL cuts longer names, when it creates a database and when it connects.
_POSTGRES_BYTES = 63


@dataclass(frozen=True, slots=True)
class Configured:
    """One entry of the project's DATABASES, without secrets."""

    alias: str
    vendor: str
    engine: str
    #: NAME, and the name that Django gives the test database (of an SQLite file: absolute paths).
    name: str
    test_name: str
    #: The project gave it a TEST dictionary that says something.
    test: bool
    host: str
    port: str
    #: Some test of the selection uses it.
    used: bool

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)

    @property
    def server(self) -> tuple[str, str, str]:
        """Equal for two aliases of one server. SQLite has one server: the file system."""
        if self.vendor == "sqlite":
            return (self.vendor, "", "")
        host = "localhost" if self.host.lower() in _LOCAL else self.host.lower()
        return (self.vendor, host, self.port or _PORTS.get(self.vendor, ""))

    @property
    def where(self) -> str:
        """The server in words."""
        _, host, port = self.server
        text = f"{host}:{port}" if port else host or "this host"
        return text if text.isprintable() else ascii(text)

    def same(self, name: str) -> str:
        """What the server takes `name` for: equal for two names of one database, empty for a database in memory."""
        if self.vendor == "sqlite":
            return "" if _in_memory(name) else posixpath.normpath(name)
        if self.vendor == "postgresql":
            return name.encode(errors="surrogatepass")[:_POSTGRES_BYTES].decode(errors="replace")
        return name.casefold()


def check(
    configured: Sequence[Configured],
    *,
    facts: Mapping[str, str],
    allow: Sequence[str],
    deny: Sequence[str],
    deny_hosts: Sequence[str],
) -> list[str]:
    """Warnings, one line each. Raises ConfigError (alias, rule, mend) for what tests must not come near.

    `facts`: "django_env" (the variable DJANGO_ENV) and "debug" (the setting) as the project sees them. `allow` and `deny` are
    globs over configured names, `deny_hosts` over HOST or HOST:PORT; upper and lower case are the same.
    """
    _refuse_environment(facts.get("django_env", ""))
    for one in configured:
        _refuse_doomed(one, configured)
    used = [one for one in configured if one.used]
    for one in used:
        _refuse_host(one, deny_hosts)
        if rule := _production(one, allow, deny):
            raise ConfigError(f"database {one.alias!r}: {_says(one, rule)}; {_mend(one, rule)}")
    for other in configured:
        if not other.used and (rule := _production(other, allow, deny)):
            _refuse_neighbour(other, rule, used)
    return list(_warnings(used, facts))


def looks_like_production(name: str, deny: Iterable[str] = ()) -> str:
    """The rule by which this database name looks like production, empty when it does not.

    Words are what stands between separators ("_", "-", ".", a change of case); digits at their end do not count.
    """
    for pattern in deny:
        if _matches(name, (pattern,)):
            return f"--deny-database {pattern}"
    words = [word.lower().rstrip("0123456789") for word in _SEPARATOR.split(name)]
    words = [word for word in words if word]
    if not words or words[-1] in _HARMLESS:
        return ""
    found = [word for word in words if word in _ANYWHERE]
    found += [word for word in (words[0], words[-1]) if word in _EITHER_END] + [word for word in words[-1:] if word in _AT_END]
    return f"the word {found[0]!r}" if found else ""


# -- refusals --------------------------------------------------------------------------


def _refuse_environment(name: str) -> None:
    if name.strip().lower() in _ENVIRONMENTS:
        raise ConfigError(f"DJANGO_ENV is {name!r}: tests do not run there; unset it or set it to test")


def _refuse_doomed(one: Configured, configured: Iterable[Configured]) -> None:
    """Django drops and creates the test database at every run, whatever it holds."""
    for other in configured:
        if one.server == other.server and one.test_name and one.same(one.test_name) == other.same(other.name) != "":
            owner = "its own NAME" if other is one else f"the NAME of {other.alias!r}"
            raise ConfigError(
                f"database {one.alias!r}: its test database {one.test_name!r} is {owner} on {one.where}, which Django would "
                "drop; give TEST NAME another value, or none"
            )


def _refuse_host(one: Configured, deny_hosts: Iterable[str]) -> None:
    hosts = [host.strip() for host in one.host.split(",")]
    if _LOCAL.intersection(hosts):
        hosts += sorted(_LOCAL)
    port = one.server[2]
    for pattern in deny_hosts:
        if one.vendor != "sqlite" and any(_matches(host, (pattern,)) or _matches(f"{host}:{port}", (pattern,)) for host in hosts):
            raise ConfigError(
                f"database {one.alias!r}: HOST {one.host or 'localhost'!r} is denied by --deny-db-host {pattern}; point it at a "
                "test server in the settings that tests use"
            )


def _refuse_neighbour(other: Configured, rule: str, used: Iterable[Configured]) -> None:
    """Tests would share a server with production, even if they never touch that database."""
    for one in used:
        if one.server == other.server and one.vendor != "sqlite":
            lack = " has no TEST settings and" if not one.test else ""
            raise ConfigError(
                f"database {one.alias!r}{lack} shares the server {one.where} with {other.alias!r}, of which "
                f"{_says(other, rule)}; point HOST of {one.alias!r} at a test server in the settings that tests use, or "
                f"{_excuse(other, rule)}"
            )


def _production(one: Configured, allow: Iterable[str], deny: Iterable[str]) -> str:
    """What was denied by the user stays denied; `allow` excuses the words alone."""
    name = one.name
    if one.vendor == "sqlite":
        if _in_memory(name):
            return ""
        # Folders say where a checkout lies; what the file is says its own name.
        name = posixpath.splitext(posixpath.basename(name))[0]
    if rule := looks_like_production(name, deny):
        allowed = not rule.startswith("--") and (_matches(name, allow) or _matches(one.name, allow))
        return "" if allowed else rule
    return ""


def _says(one: Configured, rule: str) -> str:
    return f"NAME {one.name!r} looks like production ({rule})"


def _mend(one: Configured, rule: str) -> str:
    return f"use another NAME in the settings that tests use, or {_excuse(one, rule)}"


def _excuse(one: Configured, rule: str) -> str:
    if rule.startswith("--"):
        return "take it out of --deny-database"
    name = one.name if one.vendor != "sqlite" else posixpath.splitext(posixpath.basename(one.name))[0]
    return f"say --allow-database {name} if it is none"


def _warnings(used: Iterable[Configured], facts: Mapping[str, str]) -> Iterator[str]:
    if facts.get("debug", "").lower() in ("1", "true", "yes", "on"):
        yield "DEBUG is on in the project's settings; Django switches it off while tests run, but not while they are imported"
    for one in used:
        name = posixpath.basename(one.test_name) if one.vendor == "sqlite" else one.test_name
        if name and not _in_memory(one.test_name) and not name.startswith("test_"):
            yield (
                f"database {one.alias!r}: its TEST NAME {one.test_name!r} is not used; the databases of dct have names of their "
                "own, all of which begin with test_"
            )


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns)


def _in_memory(name: str) -> bool:
    return not name or name == ":memory:" or "mode=memory" in name or name.startswith("file:memorydb_")
