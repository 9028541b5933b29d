"""Where a connection of the project leads, and what else a process needs to open the same one.

NAME, HOST and PORT are not all that decides it. Read in the order of the client libraries: what
Django passes on, then a service or options file, then environment variables. Nothing is connected
to.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Parameter of libpq -> the variable that says it where nothing else does.
_PG_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "require_auth": "PGREQUIREAUTH",
    "channel_binding": "PGCHANNELBINDING",
    "options": "PGOPTIONS",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcertmode": "PGSSLCERTMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslsni": "PGSSLSNI",
    "requirepeer": "PGREQUIREPEER",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "gsslib": "PGGSSLIB",
    "gssdelegation": "PGGSSDELEGATION",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
}
#: Parameters that are files or folders; a relative one counts from the working directory.
_PG_PATHS = ("passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir")
_MY_PATHS = ("ssl_ca", "ssl_cert", "ssl_key", "ssl_capath", "server_public_key_path")
_MY_TLS_PATHS = ("ca", "cert", "key", "capath")
#: Values of such parameters that are no path.
_NO_PATHS = ("", "system")


@dataclass(frozen=True, slots=True)
class Where:
    """The target of one alias. Several hosts are separated by commas."""

    name: str
    host: str
    port: str
    #: What decides on the database in place of NAME; empty where NAME does.
    pinned_by: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """What another process on this machine needs to open the same session, database apart.

    Its own variables, working directory and service files do not matter.
    """

    host: str
    port: str
    user: str
    password: str = field(repr=False)
    #: Plain data: further parameters of the client library, and OPTIONS of Django's.
    options: dict[str, Any] = field(repr=False)


def where(vendor: str, settings_dict: Mapping[str, Any]) -> Where:
    """The target; its parts are empty where nothing decides them."""
    options = settings_dict.get("OPTIONS") or {}
    given = {key: str(settings_dict.get(key.upper()) or "") for key in ("name", "host", "port")}
    if vendor == "postgresql":
        return _where_postgres(settings_dict, options)
    if vendor == "mysql":
        return _where_mysql(given, options)
    return Where(**given)


def access(vendor: str, settings_dict: Mapping[str, Any]) -> Access:
    """The parameters of a session, with all that files and variables say; empty where nothing
    does.
    """
    options = _plain(settings_dict.get("OPTIONS") or {})
    if vendor == "postgresql":
        return _access_postgres(settings_dict, options)
    if vendor == "mysql":
        return _access_mysql(settings_dict, options)
    host, port, user, password = (
        str(settings_dict.get(key) or "") for key in ("HOST", "PORT", "USER", "PASSWORD")
    )
    return Access(host, port, user, password, options)


# -- PostgreSQL ------------------------------------------------------------------------


def _where_postgres(settings_dict: Mapping[str, Any], options: Mapping[str, Any]) -> Where:
    said = _libpq(settings_dict, options)
    # libpq connects to the address; the name beside it serves for certificates only.
    hosts = [host for host in (said.get("hostaddr"), said.get("host")) if host]
    pinned = "OPTIONS['dbname']" if options.get("dbname") else ""
    name = str(
        options.get("dbname")
        or settings_dict.get("NAME")
        or said.get("dbname")
        or os.environ.get("PGDATABASE")
        or ""
    )
    return Where(name, ",".join(hosts), said.get("port", ""), pinned)


def _access_postgres(settings_dict: Mapping[str, Any], options: Mapping[str, Any]) -> Access:
    said = _libpq(settings_dict, options)
    host, port, user, password = (said.pop(key, "") for key in ("host", "port", "user", "password"))
    paths = {key: _absolute(said[key]) for key in _PG_PATHS if key in said}
    both = {**options, **said, **paths}
    left = {key: value for key, value in both.items() if key not in ("service", "dbname")}
    return Access(host, port, user, password, left)


def _libpq(settings_dict: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, str]:
    """Parameters of libpq by name: from Django, else from the service, else from variables.

    Of OPTIONS only those that a variable could say; the others reach libpq as they are.
    """
    said = {
        name: os.environ[variable]
        for name, variable in _PG_VARIABLES.items()
        if os.environ.get(variable)
    }
    said |= _service(str(options.get("service") or os.environ.get("PGSERVICE") or ""))
    said |= {name: str(options[name]) for name in _PG_VARIABLES if options.get(name)}
    # Django sets these over its OPTIONS.
    for name in ("host", "port", "user", "password"):
        if value := settings_dict.get(name.upper()):
            said[name] = str(value)
    return said


def _service(name: str) -> Mapping[str, str]:
    """A section of the user's service file, or of the system's."""
    if not name:
        return {}
    own = os.environ.get("PGSERVICEFILE") or os.path.expanduser("~/.pg_service.conf")
    system = os.path.join(
        os.environ.get("PGSYSCONFDIR") or "/etc/postgresql-common", "pg_service.conf"
    )
    found: dict[str, str] = {}
    for file in (system, own):
        found |= _section(file, name)
    return found


# -- MySQL and MariaDB -----------------------------------------------------------------


def _where_mysql(given: Mapping[str, str], options: Mapping[str, Any]) -> Where:
    read = _options_file(options)
    pins = [name for name in ("db", "database") if options.get(name)]
    name = str(options[pins[0]]) if pins else given["name"] or read.get("database", "")
    socket = options.get("unix_socket") or ("" if given["host"] else read.get("socket", ""))
    host = socket or options.get("host") or given["host"] or read.get("host", "")
    port = options.get("port") or given["port"] or read.get("port", "")
    return Where(name, str(host), str(port), f"OPTIONS[{pins[0]!r}]" if pins else "")


def _access_mysql(settings_dict: Mapping[str, Any], options: dict[str, Any]) -> Access:
    read = _options_file(options)

    def said(names: tuple[str, ...], setting: str, variable: str, in_file: str) -> str:
        """OPTIONS come before settings. What the file says is left to it."""
        for name in names:
            if value := options.pop(name, None):
                return str(value)
        if value := settings_dict.get(setting):
            return str(value)
        return "" if read.get(in_file) else os.environ.get(variable, "")

    host = said(("host",), "HOST", "", "host")
    port = said(("port",), "PORT", "MYSQL_TCP_PORT", "port")
    user = said(("user",), "USER", "", "user")
    password = said(("passwd", "password"), "PASSWORD", "MYSQL_PWD", "password")
    socket = os.environ.get("MYSQL_UNIX_PORT")
    if socket and not (host or read.get("host") or read.get("socket")):
        options.setdefault("unix_socket", socket)
    if file := options.get("read_default_file"):
        options["read_default_file"] = _absolute(os.path.expanduser(str(file)))
    options |= {key: _absolute(options[key]) for key in _MY_PATHS if key in options}
    if isinstance(tls := options.get("ssl"), dict):
        paths = {key: _absolute(tls[key]) for key in _MY_TLS_PATHS if key in tls}
        options["ssl"] = {**tls, **paths}
    return Access(host, port, user, password, options)


def _options_file(options: Mapping[str, Any]) -> Mapping[str, str]:
    file = os.path.expanduser(str(options.get("read_default_file") or ""))
    groups = ("client", "client-server", "client-mariadb", options.get("read_default_group"))
    read: dict[str, str] = {}
    for group in groups:
        read |= _section(file, str(group)) if file and group else {}
    return read


# -- both ------------------------------------------------------------------------------


def _section(file: str, name: str) -> dict[str, str]:
    """A section of a file that the client library would read; empty if it cannot be read."""
    parser = configparser.RawConfigParser(
        strict=False, allow_no_value=True, delimiters=("=",), comment_prefixes=("#", ";", "!")
    )
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as lines:
            parser.read_file(line.strip() for line in lines)
    except (OSError, configparser.Error):
        return {}
    if not parser.has_section(name):
        return {}
    return {key.replace("-", "_"): value.strip("'\"") for key, value in parser.items(name) if value}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of OPTIONS is plain data, so that it can be sent: no classes, no functions."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, os.PathLike):
            found[str(name)] = os.fsdecode(value)
        elif isinstance(value, (str, int, float, bool)):
            found[str(name)] = value
        elif isinstance(value, Mapping):
            found[str(name)] = _plain(value)
    return found


def _absolute(path: Any) -> Any:
    """From the working directory of the project, which no other process has."""
    return path if str(path) in _NO_PATHS else os.path.abspath(str(path))
