"""The guards: which configured databases tests must never come near.

They look at what the project has configured, before anything is published, created or connected to;
and at the address of a server before a statement goes there. Databases that we make have names,
marks and checks of their own (`core.databases.names`, `core.databases.marks`). Pure: what host
names resolve to is an argument.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

from dct_celery.core import codec
from dct_celery.core.text import one_line
from dct_celery.errors import GuardRefused, NameRefused, ProtocolError

#: Words that mean production anywhere in a name. Not "master", "main", "product": too many innocent
#: names have them.
_ANYWHERE = frozenset(
    {"prod", "production", "prd", "preprod", "preproduction", "staging", "stg", "uat"}
)
#: The same as part of a longer word: "shopprod", "prodshop". Not "live", "stage", "uat": alive,
#: backstage, squat.
_COMPOUND = re.compile(r"\w+(?:prod|prd|production|staging|stg)|prod(?!uc|ig|ro|ded|ding|s\Z)\w+")
#: Words that match `_COMPOUND` but do not mean production.
_INNOCENT = frozenset(
    {"nonprod", "noprod", "nonproduction", "reproduction", "coproduction", "overproduction",
     "postproduction", "underproduction", "upstaging", "restaging"}
)  # fmt: skip
#: Words that mean production only as the first or last word ("shop_live"); elsewhere they are part
#: of the project's subject ("shop_live_chat").
_EITHER_END = frozenset({"live"})
#: Words that mean production only as the last word ("shop_stage", but not "stage_plays").
_AT_END = frozenset({"stage"})
#: A last word that overrides all others: "staging_area_tests", "prod_dev".
_HARMLESS = frozenset({"test", "tests", "testing", "dev", "development", "local", "ci"})
#: Variables that name the deployment. Not NODE_ENV: it is about the assets that are built, in tests
#: as well.
ENVIRONMENT_VARIABLES = (
    "DJANGO_ENV",
    "DJANGO_ENVIRONMENT",
    "ENVIRONMENT",
    "APP_ENV",
    "DEPLOY_ENV",
    "ENV",
)
_SEPARATOR = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")
_LOCAL = frozenset({"", "localhost", "127.0.0.1", "::1"})
_PORTS = {"postgresql": "5432", "mysql": "3306"}
#: PostgreSQL cuts longer names, both when it creates a database and when it connects.
_POSTGRES_BYTES = 63


@dataclass(frozen=True, slots=True)
class Configured:
    """One entry of the project's DATABASES, without secrets."""

    alias: str
    vendor: str
    #: NAME, and the name that Django gives the test database (of an SQLite file: absolute paths).
    name: str
    test_name: str
    #: The project gave it a non-empty TEST dictionary.
    test: bool
    #: Where its connections lead, by HOST, OPTIONS, PGHOST, a service or options file. Several are
    #: separated by commas.
    host: str
    port: str
    #: Some test of the selection uses it.
    used: bool
    #: The setting that overrides NAME ("OPTIONS['dbname']"), so that no clone could take its place.
    pinned_by: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """As the loader has sent it. Raises ProtocolError: projects can write into its channel."""
        try:
            return codec.decode(cls, data)
        except codec.Malformed as error:
            raise ProtocolError(
                f"the loader's description of a setting is malformed: {error}"
            ) from None

    @property
    def hosts(self) -> list[str]:
        return [host.strip() for host in self.host.split(",")]

    @property
    def server(self) -> tuple[str, str, str]:
        """Equal for two aliases of one server. SQLite has one server: the file system."""
        if self.vendor == "sqlite":
            return (self.vendor, "", "")
        host = "localhost" if self.host.lower() in _LOCAL else self.host.lower()
        return (self.vendor, host, self.port or _PORTS.get(self.vendor, ""))

    @property
    def where(self) -> str:
        """The server, for messages."""
        _, host, port = self.server
        text = f"{host}:{port}" if port else host or "this host"
        return text if text.isprintable() else ascii(text)

    def same(self, name: str) -> str:
        """The name as the server understands it: equal for two names of one database.

        Empty for a database in memory.
        """
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
    addresses: Mapping[str, Collection[str]],
) -> list[str]:
    """Warnings, one line each. Raises GuardRefused for what tests must not come near.

    Its message names alias, rule and fix. `facts`: ENVIRONMENT_VARIABLES, "settings" (the module's
    name) and "debug" (the setting) as the project sees them. `allow` and `deny` are globs over
    configured names, `deny_hosts` over HOST or HOST:PORT; case does not matter. `addresses`: what
    each of `hosts_to_resolve` resolves to.
    """
    _refuse_environment(facts)
    for one in configured:
        _refuse_doomed(one, configured)
    used = [one for one in configured if one.used]
    for one in used:
        _refuse_host(one, deny_hosts, addresses)
        _refuse_pinned(one)
        if rule := _production(one, allow, deny):
            raise _refusal(rule)(f"database {one.alias!r}: {_says(one, rule)}; {_fix(one, rule)}")
    for other in configured:
        if not other.used and (rule := _production(other, allow, deny)):
            _refuse_neighbour(other, rule, used)
    return list(_warnings(used, facts))


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What the environment says of ENVIRONMENT_VARIABLES, as a part of the facts of `check`."""
    return {name: environ[name] for name in ENVIRONMENT_VARIABLES if name in environ}


def looks_like_production(name: str, deny: Iterable[str] = ()) -> str:
    """The rule by which this database name looks like production; empty if it does not.

    Words are separated by "_", "-", "." and changes of case; digits at their end do not count.
    """
    for pattern in deny:
        if _matches(name, (pattern,)):
            return f"--deny-database {pattern}"
    words = [word.casefold().rstrip("0123456789") for word in _SEPARATOR.split(name)]
    words = [word for word in words if word]
    if not words or words[-1] in _HARMLESS:
        return ""
    found = [
        word
        for word in words
        if word in _ANYWHERE or (_COMPOUND.fullmatch(word) and word not in _INNOCENT)
    ]
    found += [word for word in (words[0], words[-1]) if word in _EITHER_END]
    found += [word for word in words[-1:] if word in _AT_END]
    return f"the word {found[0]!r}" if found else ""


# -- refusals --------------------------------------------------------------------------


def _refuse_environment(facts: Mapping[str, str]) -> None:
    for variable in ENVIRONMENT_VARIABLES:
        if looks_like_production(value := facts.get(variable, "").strip()):
            raise GuardRefused(
                f"{variable} is {value!r}: tests do not run there; unset it or set it to test"
            )
    module = facts.get("settings", "")
    if looks_like_production(module.rpartition(".")[2]):
        raise GuardRefused(
            f"the settings module {module!r} is for production, by its name: tests do not run"
            " there; name another one with --settings or DJANGO_SETTINGS_MODULE"
        )


def _refuse_doomed(one: Configured, configured: Iterable[Configured]) -> None:
    """Django drops and creates the test database at every run, whatever it holds."""
    for other in configured:
        if (
            one.server == other.server
            and one.test_name
            and one.same(one.test_name) == other.same(other.name) != ""
        ):
            owner = "its own NAME" if other is one else f"the NAME of {other.alias!r}"
            raise GuardRefused(
                f"database {one.alias!r}: its test database {one.test_name!r} is {owner} on"
                f" {one.where}, which Django would drop; give TEST NAME another value, or none"
            )


def _refuse_host(
    one: Configured, deny_hosts: Iterable[str], addresses: Mapping[str, Collection[str]]
) -> None:
    if one.vendor == "sqlite":
        return
    for pattern in deny_hosts:
        for host in one.hosts:
            address = _denied(host, one.server[2], pattern, addresses)
            if address is not None:
                which = f", which is {address}," if address else ""
                raise GuardRefused(
                    f"database {one.alias!r}: HOST {host or 'localhost'!r}{which} is denied by"
                    f" --deny-db-host {pattern}; point it at a test server in the settings that"
                    " tests use"
                )


def refuse_address(
    alias: str,
    vendor: str,
    seen: Iterable[str],
    port: str,
    deny_hosts: Sequence[str],
    addresses: Mapping[str, Collection[str]],
) -> None:
    """Raises GuardRefused if one of the addresses `seen` of a connected server is denied.

    A name may lead elsewhere on another machine, and a proxy to a server of another name. `seen`
    may be lazy: each address is fetched when it is checked. `addresses`: what each of
    `hosts_to_resolve((), deny_hosts)` resolves to.
    """
    port = port or _PORTS.get(vendor, "")
    for address in seen if deny_hosts else ():
        for pattern in deny_hosts:
            if _denied(address, port, pattern, {**addresses, address: {address}}) is not None:
                raise GuardRefused(
                    f"database {alias!r}: its server has the address {address!r}, which is denied"
                    f" by --deny-db-host {pattern}; point HOST at a test server in the settings"
                    " that tests use"
                )


def hosts_to_resolve(configured: Iterable[Configured], deny_hosts: Iterable[str]) -> set[str]:
    """The host names that the check needs addresses of; empty if nothing is denied."""
    denied = {_host_of(pattern)[0] for pattern in deny_hosts}
    if not denied:
        return set()
    hosts = {
        host for one in configured if one.used and one.vendor != "sqlite" for host in one.hosts
    }
    return {
        host
        for host in hosts | denied
        if host and not _is_here(host) and not set("*?[") & set(host)
    } | {"localhost"}


def _denied(
    host: str, port: str, pattern: str, addresses: Mapping[str, Collection[str]]
) -> str | None:
    """The address by which the pattern matches this host.

    Empty if it matches the name, None if it matches neither.
    """
    names = sorted(_LOCAL) if _is_here(host) else [host]
    if any(_matches(name, (pattern,)) or _matches(f"{name}:{port}", (pattern,)) for name in names):
        return ""
    wanted, wanted_port = _host_of(pattern)
    if wanted_port and wanted_port != port:
        return None
    own = {
        address
        for name in ("localhost" if _is_here(host) else host,)
        for address in addresses.get(name, ())
    }
    same = sorted(own & set(addresses.get(wanted, ()))) or sorted(
        one for one in own if _matches(one, (wanted,))
    )
    return same[0] if same else None


def _is_here(host: str) -> bool:
    """A socket in the file system is on this host."""
    return host.lower() in _LOCAL or host.startswith(("/", "@"))


def _host_of(pattern: str) -> tuple[str, str]:
    """Host and port of an entry of the list; a bare IPv6 address contains colons."""
    host, colon, port = pattern.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.endswith("]")):
        host, port = pattern, ""
    return host.strip("[]"), port


def _refuse_pinned(one: Configured) -> None:
    if one.pinned_by:
        raise GuardRefused(
            f"database {one.alias!r}: {one.pinned_by} names the database {one.name!r} whatever NAME"
            " says, so tests would run there; move it to NAME"
        )


def _refusal(rule: str) -> type[GuardRefused]:
    """What a user has denied is refused for good, what only looks like production is not."""
    return GuardRefused if rule.startswith("--") else NameRefused


def _refuse_neighbour(other: Configured, rule: str, used: Iterable[Configured]) -> None:
    """Tests would share a server with production, even if they never use that database."""
    for one in used:
        if one.server == other.server and one.vendor != "sqlite":
            lack = " has no TEST settings and" if not one.test else ""
            raise _refusal(rule)(
                f"database {one.alias!r}{lack} shares the server {one.where} with {other.alias!r},"
                f" of which {_says(other, rule)}; point HOST of {one.alias!r} at a test server in"
                f" the settings that tests use, or {_excuse(other, rule)}"
            )


def excused(
    configured: Iterable[Configured], *, allow: Sequence[str]
) -> Iterator[tuple[Configured, str]]:
    """What `check` accepts although it looks like production, and why."""
    for one in configured:
        if rule := _production(one, (), ()):
            is_allowed = not _production(one, allow, ())
            why = (
                "--allow-database says that it is not"
                if is_allowed
                else "no test uses it, and it is on another server"
            )
            yield one, f"looks like production ({rule}); {why}"


def _production(one: Configured, allow: Iterable[str], deny: Iterable[str]) -> str:
    """The rule by which it is production; `allow` overrides words, but not `deny`."""
    name = one.name
    if one.vendor == "sqlite":
        if _in_memory(name):
            return ""
        # Only the file's own name counts: folders say where a checkout lies.
        name = posixpath.splitext(posixpath.basename(name))[0]
    if rule := looks_like_production(name, deny):
        allowed = not rule.startswith("--") and (_matches(name, allow) or _matches(one.name, allow))
        return "" if allowed else rule
    return ""


def _says(one: Configured, rule: str) -> str:
    return f"NAME {one.name!r} looks like production ({rule})"


def _fix(one: Configured, rule: str) -> str:
    return f"use another NAME in the settings that tests use, or {_excuse(one, rule)}"


def _excuse(one: Configured, rule: str) -> str:
    if rule.startswith("--"):
        return "remove it from --deny-database"
    name = one.name
    if one.vendor == "sqlite":
        name = posixpath.splitext(posixpath.basename(name))[0]
    return f"pass --allow-database {one_line(name)} if it is not production"


def _warnings(used: Iterable[Configured], facts: Mapping[str, str]) -> Iterator[str]:
    if facts.get("debug", "").lower() in ("1", "true", "yes", "on"):
        yield (
            "DEBUG is on in the project's settings; Django switches it off while tests run, but not"
            " while they are imported"
        )
    for one in used:
        name = posixpath.basename(one.test_name) if one.vendor == "sqlite" else one.test_name
        if name and not _in_memory(one.test_name) and not name.startswith("test_"):
            yield (
                f"database {one.alias!r}: its TEST NAME {one.test_name!r} is not used; the"
                " databases of dct have names of their own, all of which begin with test_"
            )


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns)


def _in_memory(name: str) -> bool:
    return (
        not name or name == ":memory:" or "mode=memory" in name or name.startswith("file:memorydb_")
    )
