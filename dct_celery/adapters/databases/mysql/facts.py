"""Facts about a MySQL or MariaDB server: version, settings, capacity, and our privileges on it."""

from __future__ import annotations

import hashlib
import re
import time

from dct_celery.adapters.databases.mysql.connection import Link, text, where
from dct_celery.errors import DatabaseError, DatabaseUnfit
from dct_celery.ports import DatabaseSpec

#: The oldest versions that we support.
_OLDEST = {"MariaDB": (10, 6), "MySQL": (8, 0)}
#: Number of tables from which healing beats cloning on MariaDB, until both have been measured.
_MANY_TABLES = 60
#: Seconds for one CREATE TABLE from which users are warned.
_DEAR_TABLE = 0.004
#: Server settings that are part of a template's key.
_FACTS = (
    "character_set_server", "collation_server", "sql_mode", "lower_case_table_names",
    "default_storage_engine",
    "innodb_default_row_format", "explicit_defaults_for_timestamp", "time_zone",
)  # fmt: skip
#: Setting -> values that are slow for throw-away data, and the fix.
_SLOW = {
    "innodb_stats_persistent": (
        ("1", "ON"),
        "innodb_stats_persistent=OFF halves the time of a clone on MariaDB",
    ),
    "innodb_flush_log_at_trx_commit": (
        ("1",),
        "innodb_flush_log_at_trx_commit=0 saves a disk wait per commit",
    ),
    "innodb_doublewrite": (("1", "ON"), "innodb_doublewrite=0 halves what is written"),
    "log_bin": (("1", "ON"), "skip-log-bin: test databases are not replicated"),
    "sync_frm": (("1", "ON"), "sync_frm=0 saves disk waits per table"),
    "performance_schema": (
        ("1", "ON"),
        "performance_schema=OFF makes every statement a little cheaper",
    ),
}


def version(link: Link) -> tuple[str, tuple[int, int], str]:
    """Maker, (major, minor), and the text of VERSION()."""
    version_text = text(link.one("SELECT VERSION()")[0])
    return (*parsed_version(version_text), version_text)


def parsed_version(version_text: str) -> tuple[str, tuple[int, int]]:
    """Maker and (major, minor) from the text of VERSION()."""
    found = re.match(r"(\d+)\.(\d+)", version_text.removeprefix("5.5.5-"))
    return "MariaDB" if "mariadb" in version_text.lower() else "MySQL", (
        (
            int(found[1]),
            int(found[2]),
        )
        if found
        else (0, 0)
    )


def check_version(version_text: str, place: str) -> None:
    """Raises DatabaseUnfit for a server that is too old; `version_text`: from VERSION()."""
    maker, number = parsed_version(version_text)
    oldest = _OLDEST[maker]
    if number < oldest:
        raise DatabaseUnfit(
            f"{maker} {version_text} on {place} is too old: "
            f"{maker} {oldest[0]}.{oldest[1]} or newer is needed"
        )


def missing_right(link: Link, spec: DatabaseSpec, error: DatabaseError) -> DatabaseError:
    user, _, host = text(link.one("SELECT CURRENT_USER()")[0]).rpartition("@")
    account = f"{_quoted(user)}@{_quoted(host)}"
    return DatabaseUnfit(
        f"user {account} may not make test databases on {where(spec)} (alias {spec.alias!r}): "
        f"{error}; as an administrator: GRANT ALL ON `test\\_%`.* TO {account}"
    )


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def variables(link: Link) -> dict[str, str]:
    return {text(name): text(value) for name, value in link.rows("SHOW GLOBAL VARIABLES")}


def facts(link: Link) -> dict[str, str]:
    maker, _, version_text = version(link)
    values = variables(link)
    return {
        "vendor": maker.lower(),
        "version": version_text,
        **{name: values[name] for name in _FACTS if name in values},
    }


def warnings(link: Link, place: str) -> list[str]:
    """One line for the settings that make test databases slow, if there are any."""
    values = variables(link)
    slow = [fix for name, (bad, fix) in _SLOW.items() if values.get(name, "") in bad]
    return [f"{place} has settings that cost time: {'; '.join(slow)}"] if slow else []


def slow_ddl(link: Link, place: str) -> list[str]:
    """Creates a few tables in the current database and warns if that is slow."""
    maker, number, _ = version(link)
    seconds = min(_table_seconds(link, f"probe{i}") for i in range(3))
    if seconds < _DEAR_TABLE:
        return []
    return [
        f"a table takes {seconds * 1000:.0f} ms on {place} ({maker} {number[0]}.{number[1]}), "
        f"a clone of 200 tables about {seconds * 200:.1f} s: "
        "keep clones between runs, or give the server a tmpfs"
    ]


def _table_seconds(link: Link, name: str) -> float:
    begun = time.monotonic()
    link.run(
        f"CREATE TABLE {name} (id BIGINT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(50), b INT, KEY "
        "by_a (a), KEY by_b (b))"
    )
    return time.monotonic() - begun


def capacity(link: Link) -> int:
    """Sessions left for us: on the server, and for our user if it has a limit of its own."""
    most, of_user, user = link.one(
        "SELECT @@max_connections, @@max_user_connections, SUBSTRING_INDEX(CURRENT_USER(), '@', 1)"
    )
    status = {
        text(name): int(value)
        for name, value in link.rows("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    }
    left = int(most) - status.get("Threads_connected", 0) - 1
    if int(of_user):
        ours = [row for row in link.rows("SHOW PROCESSLIST") if text(row[1]) == text(user)]
        left = min(left, int(of_user) - len(ours))
    return max(left, 0)


def heals_cheaper(link: Link, template: str) -> bool:
    """The guess before both were measured: always on MySQL, from many tables on MariaDB."""
    if version(link)[0] == "MySQL":
        return True
    query = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s"
    return int(link.one(query, [template])[0]) > _MANY_TABLES


def shape(link: Link, name: str) -> str:
    """Hash of tables and columns; TRUNCATE and ALTER change a table's creation time."""
    tables = link.rows(
        "SELECT table_name, table_type, engine, create_time FROM information_schema.tables "
        "WHERE table_schema = %s ORDER BY 1",
        [name],
    )
    columns = link.rows(
        "SELECT table_name, column_name, column_type, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = %s ORDER BY 1, ordinal_position",
        [name],
    )
    return hashlib.sha256(repr([tables, columns]).encode()).hexdigest()
