"""Where a connection of the project leads: NAME, HOST and PORT are not all that decides it.

Read in the order of the client libraries: what Django passes on, then a service or options file,
then environment variables. Nothing is connected to.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Where:
    """The target of one alias. Several hosts are separated by commas."""

    name: str
    host: str
    port: str
    #: What decides on the database in place of NAME; empty where NAME does.
    pinned_by: str = ""


def where(vendor: str, settings_dict: Mapping[str, Any]) -> Where:
    """The target; its parts are empty where nothing decides them."""
    options = settings_dict.get("OPTIONS") or {}
    given = {key: str(settings_dict.get(key.upper()) or "") for key in ("name", "host", "port")}
    if vendor == "postgresql":
        return _postgres(given, options)
    if vendor == "mysql":
        return _mysql(given, options)
    return Where(**given)


def _postgres(given: Mapping[str, str], options: Mapping[str, Any]) -> Where:
    service = _service(str(options.get("service") or os.environ.get("PGSERVICE") or ""))

    def said(option: str, setting: str = "") -> str:
        return str(
            setting
            or options.get(option)
            or service.get(option)
            or os.environ.get(f"PG{option.upper()}")
            or ""
        )

    # libpq connects to the address; the name beside it serves for certificates only.
    hosts = [host for host in (said("hostaddr"), said("host", given["host"])) if host]
    pinned = "OPTIONS['dbname']" if options.get("dbname") else ""
    name = str(
        options.get("dbname")
        or given["name"]
        or service.get("dbname")
        or os.environ.get("PGDATABASE")
        or ""
    )
    return Where(name, ",".join(hosts), said("port", given["port"]), pinned)


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


def _mysql(given: Mapping[str, str], options: Mapping[str, Any]) -> Where:
    file = str(options.get("read_default_file") or "")
    read: dict[str, str] = {}
    for group in ("client", str(options.get("read_default_group") or "")):
        read |= _section(os.path.expanduser(file), group) if file and group else {}
    pins = [name for name in ("db", "database") if options.get(name)]
    name = str(options[pins[0]]) if pins else given["name"] or read.get("database", "")
    socket = options.get("unix_socket") or ("" if given["host"] else read.get("socket", ""))
    host = socket or options.get("host") or given["host"] or read.get("host", "")
    port = options.get("port") or given["port"] or read.get("port", "")
    return Where(name, str(host), str(port), f"OPTIONS[{pins[0]!r}]" if pins else "")


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
