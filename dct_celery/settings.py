"""Owns every setting: one table of options, the places a value may come from, and which values are
valid.

Precedence: flag > `DCT_*` variable (or `DCT_*_FILE` for secrets) > `[tool.dct]` in the nearest
pyproject.toml that has it > default. A variable that is set but empty counts as not set. `load` is
called once, at the entry point.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dct_celery.core import backends, globs, ids
from dct_celery.core.address import AddressError, UnquotedError
from dct_celery.core.option import Group, Kind, Option, accept, expected, shown
from dct_celery.errors import ConfigError
from dct_celery.security import masking

DEFAULT_STORE = "redis://127.0.0.1:6379/0"
#: `DCT_*` variables that parts of ours hand to one another; never settings, never refused.
INTERNAL_VARIABLES = frozenset({"DCT_SLOT", "DCT_TEST_PROCESS", "DCT_PG_BIN", "DCT_MAINTENANCE"})
_STORE_SCHEMES = ("redis", "rediss", "unix", "redis+socket")
_BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps", "redis+socket", "unix")


def _option(
    group: Group, kind: Kind, text: str, *flags: str, default: object = None, **more: Any
) -> Any:
    option = Option(kind, group, text, default, flags, **more)
    return field(default=default, repr=not option.secret, metadata={"option": option})


_django, _fleet, _code = (
    partial(_option, "django"),
    partial(_option, "fleet"),
    partial(_option, "code"),
)
_database, _limits = partial(_option, "database"), partial(_option, "limits")
_report, _worker = partial(_option, "report"), partial(_option, "worker")
_ENV = {
    "pattern": r"[A-Za-z_*?\[][\w*?\[\]!-]*",
    "rule": 'names or globs such as AWS_*, without "=" or a value',
}
_POOL = {"pattern": r"[a-z0-9_-]{1,32}", "rule": '1 to 32 of a-z, 0-9, "_", "-"'}
_RUN_ID = {"pattern": ids.RUN_ID, "rule": ids.RUN_ID_RULE}
_GLOBS = {"pattern": globs.PATTERN, "rule": globs.RULE}
#: Least characters of a signing key: `dct keygen` makes one of 43.
KEY_LENGTH = 32
_KEYS = {
    "pattern": rf"\s*\S{{{KEY_LENGTH},}}(\s+\S{{{KEY_LENGTH},}})*\s*",
    "rule": (
        f"a key of at least {KEY_LENGTH} characters (dct keygen makes one), or several, separated"
        " by blanks"
    ),
}
_DOTTED = {"pattern": r"[^\W\d]\w*(\.[^\W\d]\w*)*", "rule": "a dotted Python name"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, typed. None means "not given". Relative paths are relative to `project_dir`;
    times are seconds.
    """

    labels: tuple[str, ...] = ()
    #: Absolute path of the folder that the command was started in.
    project_dir: str = "."

    backend: str = _django(
        "str", "Test framework: django, or module:attribute of a backend of your own", default=backends.DJANGO,
        metavar="NAME", pattern=backends.PATTERN, rule=backends.RULE,
    )  # fmt: skip
    settings: str | None = _django("str", "Django settings module", metavar="DOTTED", **_DOTTED)
    pythonpath: str | None = _django("path", "Folder to put on sys.path", metavar="DIR")
    k: tuple[str, ...] = _django(
        "list", "Only tests whose name contains this or matches this glob", "-k", default=()
    )
    tag: tuple[str, ...] = _django("list", "Only tests with this tag", default=(), metavar="TAG")
    exclude_tag: tuple[str, ...] = _django(
        "list", "No test with this tag", default=(), metavar="TAG"
    )
    pattern: str | None = _django(
        "str", "Names of test files (Django: test*.py)", "-p", "--pattern", metavar="GLOB"
    )
    top_level_directory: str | None = _django(
        "path", "Top-level folder of the project", "-t", "--top-level-directory", metavar="DIR"
    )
    failfast: bool = _django("bool", "Stop after the first failure", default=False)
    maxfail: int | None = _django("int", "Stop after N failures", minimum=1)
    shuffle: int | Literal["auto"] | None = _django(
        "int",
        "Shuffle the order; without SEED a new seed is chosen and shown",
        bare="auto",
        metavar="[SEED]",
    )
    reverse: bool = _django("bool", "Reverse the order", default=False)
    buffer: bool = _django("bool", "Show the output of failing tests only", default=False)
    debug_sql: bool = _django("bool", "Show the SQL of failing tests", default=False)
    timing: bool = _django("bool", "Show how long the parts of the run took", default=False)
    durations: int | None = _django("int", "Show the N slowest tests (0: all)", minimum=0)
    verbosity: int = _django(
        "int",
        "How much to print, 0 to 3",
        "-v",
        "--verbosity",
        default=1,
        minimum=0,
        maximum=3,
        metavar="LEVEL",
    )
    testrunner: str | None = _django(
        "str", "Test runner class instead of TEST_RUNNER", metavar="DOTTED", **_DOTTED
    )
    extra: tuple[str, ...] = _django(
        "list", "Argument for the project's own test runner, as it is", default=(), metavar="ARG"
    )

    store: str = _fleet(
        "url", "Redis or Valkey", default=DEFAULT_STORE, choices=_STORE_SCHEMES, secret=True
    )
    broker: str = _fleet(
        "url",
        "Celery broker; the store if not given",
        default="",
        choices=_BROKER_SCHEMES,
        secret=True,
    )
    pool: str = _fleet("str", "Pool of workers to use", default="default", metavar="NAME", **_POOL)
    local: int | None = _fleet(
        "int",
        "No fleet: N slots on this machine; without N one per core",
        bare=0,
        minimum=0,
        metavar="[N]",
    )
    local_fallback: int | None = _fleet(
        "int", "N slots on this machine if no worker is there for --fallback-after; without N one per core", bare=0, minimum=0,
        metavar="[N]",
    )  # fmt: skip
    fallback_after: float = _fleet("float", "How long to wait before that", default=15.0, minimum=0)
    python: str | None = _fleet(
        "program",
        "Interpreter that the project runs with, here and on workers",
        variable="DCT_PYTHON",
    )
    run_id: str | None = _fleet(
        "str", "Id of the run instead of one we choose", metavar="ID", **_RUN_ID
    )
    env: tuple[str, ...] = _fleet(
        "list", "Variable (name or glob) to hand to the tests", default=(), metavar="NAME", **_ENV
    )
    signing_key: str | None = _fleet(
        "str",
        "Key of the pool's messages; better in DCT_SIGNING_KEY_FILE",
        secret=True,
        metavar="KEY",
        **_KEYS,
    )
    insecure: bool = _fleet(
        "bool",
        "Go without a signing key: whoever reaches the store can run code on workers",
        default=False,
    )
    ignore_package: tuple[str, ...] = _fleet(
        "list", "Package whose version may differ on workers", default=(), metavar="NAME"
    )

    code: Literal["snapshot", "checkout"] = _code(
        "str",
        "Send the code, or prove that the workers have it",
        default="snapshot",
        choices=("snapshot", "checkout"),
    )
    include: tuple[str, ...] = _code(
        "list",
        "Ignored files that tests need: send them, too",
        default=(),
        metavar="GLOB",
        **_GLOBS,
    )
    exclude: tuple[str, ...] = _code(
        "list", "Files that tests do not need: leave them out", default=(), metavar="GLOB", **_GLOBS
    )

    create_db: bool = _database(
        "bool", "Build the templates anew instead of using those of earlier runs", default=False
    )
    keep_databases: Literal["auto", "always", "never"] = _database(
        "str", "Keep clean clones for the next run; auto: where cloning is slow", default="auto",
        choices=("auto", "always", "never"), metavar="WHEN",
    )  # fmt: skip
    template_depends: tuple[str, ...] = _database(
        "list",
        "Files (glob below the project folder) that data migrations read",
        default=(),
        metavar="GLOB",
    )
    allow_database: tuple[str, ...] = _database(
        "list",
        "Configured database name (glob) that is no production although it looks so",
        default=(),
        metavar="PATTERN",
    )
    deny_database: tuple[str, ...] = _database(
        "list",
        "Configured database name (glob) that is production although it does not look so",
        default=(),
        metavar="PATTERN",
    )
    deny_db_host: tuple[str, ...] = _database(
        "list", "Database server (glob) that tests must never reach", default=(), metavar="HOST"
    )

    test_timeout: float | None = _limits(
        "float",
        "Longest time of one test; ten times what it took before, at least 60, if not given",
        minimum=0.1,
        off=True,
    )
    fixture_timeout: float | None = _limits(
        "float", "Longest time of a class or module fixture, or of all imports; 300, or more by history, if not given",
        minimum=0.1, off=True,
    )  # fmt: skip
    crash_budget: int | None = _limits(
        "int",
        "Stop after more deaths of test processes than N (0: never); 5, or 2 % of the chunks, if"
        " not given",
        minimum=0,
    )
    timeout: float | None = _limits("float", "Longest time of the whole run", minimum=0.1)
    queue_timeout: float = _limits(
        "float", "Longest wait for a first worker", default=60.0, minimum=0
    )
    chunk_seconds: float | None = _limits(
        "float", "Aim of the length of a chunk; planned if not given", minimum=0.1
    )
    reruns: int = _limits(
        "int",
        "Run a test that failed again, up to N times; one that passes then is flaky",
        default=0,
        minimum=0,
    )
    reruns_budget: float = _limits(
        "float", "No more reruns once more than this part of all tests has failed", default=10.0, minimum=0, maximum=100,
        metavar="PERCENT", rule="a percentage",
    )  # fmt: skip

    junit_xml: str | None = _report("path", "Write JUnit XML")
    junit_family: Literal["dct", "xunit2"] = _report(
        "str",
        "Dialect of the JUnit XML; xunit2 is strict",
        default="dct",
        choices=("dct", "xunit2"),
    )
    json: str | None = _report("path", "Write the report as JSON")
    artifacts: str | None = _report(
        "path",
        "Folder for files that tests leave: the whole output of each failing test that printed more"
        " than 64 KiB",
    )

    work_dir: str | None = _worker("path", "Folder for code, spools and SQLite files")
    checkout: str | None = _worker("path", "The worker's own checkout, for --code checkout")
    worker_python: str | None = _worker(
        "program", "The project's interpreter on this worker", variable="DCT_PYTHON"
    )
    lease_seconds: float = _worker(
        "float", "How long a silent slot keeps its chunk", default=15.0, minimum=1
    )
    templates_kept: int = _worker(
        "int", "Templates and idle clones kept per database server", default=30, minimum=0
    )
    templates_megabytes: int = _worker(
        "int", "Size of all that is kept per database server", default=20_000, minimum=0
    )
    keep_days: float = _worker(
        "float", "Days until an unused template or idle clone is dropped", default=14.0, minimum=0
    )
    clones_at_once: int = _worker(
        "int", "Clones a database server makes at a time; 0: by vendor", default=0, minimum=0
    )
    max_operations: int = _worker(
        "int",
        "Statements until a connection is replaced",
        default=1000,
        minimum=0,
        variable="DJANGO_TEST_MAX_OPERATIONS",
    )
    health_check_seconds: float = _worker(
        "float", "Silence after which a connection is checked", default=60.0, minimum=0,
        variable="DJANGO_TEST_HEALTH_CHECK_INTERVAL",
    )  # fmt: skip
    drain_seconds: float = _worker(
        "float", "How long a stopping worker may finish", default=120.0, minimum=0
    )

    @property
    def signing_keys(self) -> tuple[str, ...]:
        """The first one signs, all are accepted, so that a pool can change its key without a pause."""
        return tuple((self.signing_key or "").split())

    @property
    def own_key(self) -> str:
        """The key that signs; empty where there is none."""
        return next(iter(self.signing_keys), "")

    def secrets(self) -> tuple[str, ...]:
        """What nothing that leaves this process may show."""
        return (
            *self.signing_keys,
            *masking.secrets_of_url(self.store),
            *masking.secrets_of_url(self.broker),
        )

    def __post_init__(self) -> None:
        object.__setattr__(self, "broker", self.broker or _respell(self.store, "redis+socket"))


def _named(option: Option, name: str) -> Option:
    flag = () if option.group == "worker" else ("--" + name.replace("_", "-"),)
    return replace(
        option,
        name=name,
        flags=option.flags or flag,
        variable=option.variable or "DCT_" + name.upper(),
    )


OPTIONS: tuple[Option, ...] = tuple(
    _named(f.metadata["option"], f.name) for f in fields(Settings) if f.metadata
)


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was found, and where; `text` is parsed, anything else must have its type
    already.
    """

    value: object
    origin: str
    text: bool = False


def load(
    flags: Mapping[str, object], *, env: Mapping[str, str], cwd: Path
) -> tuple[Settings, dict[str, str]]:
    """The settings and, by field, where each came from ("--pool", "DCT_POOL", "default", ...).

    `flags` holds what was really given, by field name (None: not given), as text or typed, and may
    hold `labels`. Raises ConfigError for an unknown name, a bad value or an unreadable file;
    TypeError for an unknown flag. From here on `masking.PROCESS` knows the secrets of settings and
    environment.
    """
    if unknown := set(flags) - {option.name for option in OPTIONS} - {"labels"}:
        raise TypeError(f"not a setting: {', '.join(sorted(unknown))}")
    masking.PROCESS.learn(masking.secrets_of_environment(env))
    layers = (_from_flags(flags), _from_environment(env, cwd), _from_pyproject(cwd))
    labels: Any = flags.get("labels") or ()
    values: dict[str, Any] = {"labels": tuple(labels), "project_dir": str(cwd.absolute())}
    origins = {
        "labels": "command line" if values["labels"] else "default",
        "project_dir": "current folder",
    }
    for option in OPTIONS:
        given = next((layer[option.name] for layer in layers if option.name in layer), None)
        values[option.name] = (
            option.default if given is None else _value(option, given, env.get("HOME", "~"))
        )
        origins[option.name] = "default" if given is None else given.origin
    if not values["broker"]:
        origins["broker"] = "same as store"
    values["store"] = _respell(values["store"], "unix")
    values["broker"] = _respell(values["broker"], "redis+socket")
    settings = Settings(**values)
    masking.PROCESS.learn(settings.secrets())
    return settings, origins


def warnings_of(env: Mapping[str, str], cwd: Path) -> list[str]:
    """One line for each secret file that others can read; files that are no files (`/dev/fd/N`)
    belong to this process alone.
    """
    found: list[str] = []
    for option in OPTIONS:
        variable = option.variable + "_FILE"
        if option.secret and (name := env.get(variable)):
            found += _readable_by_others(variable, cwd / name)
    return found


def _readable_by_others(variable: str, path: Path) -> Iterator[str]:
    try:
        about = path.stat()
    except OSError:
        return
    if stat.S_ISREG(about.st_mode) and about.st_mode & 0o077:
        mend = (
            f"chmod 600 {path}"
            if about.st_uid == os.getuid()
            else "its owner should let nobody but this user read it"
        )
        yield f"{variable}: others can read {path} (mode {stat.S_IMODE(about.st_mode):04o}); {mend}"


def _from_flags(flags: Mapping[str, object]) -> dict[str, _Given]:
    found = ((option, flags.get(option.name)) for option in OPTIONS)
    return {
        option.name: _Given(
            value, max(option.flags, key=len, default=option.name), isinstance(value, str)
        )
        for option, value in found
        if value is not None
    }


def _from_environment(env: Mapping[str, str], cwd: Path) -> dict[str, _Given]:
    files = {option.variable + "_FILE" for option in OPTIONS if option.secret}
    known = {option.variable for option in OPTIONS} | files | INTERNAL_VARIABLES
    _refuse_unknown(
        (name for name in env if name.startswith("DCT_")), known, "{}: unknown variable"
    )
    found = {}
    for option in OPTIONS:
        if path := option.secret and env.get(option.variable + "_FILE"):
            found[option.name] = _Given(
                _secret(option, env, cwd / path), option.variable + "_FILE", text=True
            )
        elif value := env.get(option.variable):
            found[option.name] = _Given(value, option.variable, text=True)
    return found


def _secret(option: Option, env: Mapping[str, str], path: Path) -> str:
    if env.get(option.variable):
        raise ConfigError(
            f"{option.variable} and {option.variable}_FILE are both set; unset one of them"
        )
    try:
        # Once: a pipe (`/dev/fd/N`, process substitution) has it only once.
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"{option.variable}_FILE: cannot read {path} ({_why(exc)}); mend the path or its rights"
        ) from exc
    if not text:
        fix = "dct keygen makes a key" if option.name == "signing_key" else "write the URL into it"
        raise ConfigError(f"{option.variable}_FILE: {path} is empty; {fix}")
    return text


def _from_pyproject(cwd: Path) -> dict[str, _Given]:
    for folder in (cwd.absolute(), *cwd.absolute().parents):
        path = folder / "pyproject.toml"
        if path.is_file() and (table := _table(path, os.path.relpath(path, cwd))) is not None:
            return _from_table(table, folder, cwd)
    return {}


def _table(path: Path, place: str) -> dict[str, object] | None:
    """The table [tool.dct] of the file, or None where it has none."""
    try:
        tool = tomllib.loads(path.read_text(encoding="utf-8")).get("tool")
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{place} cannot be read ({_why(exc)}); mend the file") from exc
    table = tool.get("dct") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"dct under [tool] in {place} is not a table; write [tool.dct]")
    return table


def _from_table(table: Mapping[str, object], folder: Path, cwd: Path) -> dict[str, _Given]:
    place = os.path.relpath(folder / "pyproject.toml", cwd)
    keys = {key.replace("_", "-"): key for key in table}
    _refuse_unknown(
        keys, {option.key for option in OPTIONS}, f"[tool.dct] {{}} in {place}: unknown key"
    )
    if len(keys) < len(table):
        raise ConfigError(f"[tool.dct] in {place} has a key twice, with - and with _; remove one")
    found = {}
    for option in OPTIONS:
        if key := keys.get(option.key):
            value = _rebase(option, table[key], folder, cwd)
            found[option.name] = _Given(value, f"[tool.dct] {key} in {place}")
    return found


def _rebase(option: Option, value: object, folder: Path, cwd: Path) -> object:
    """A path in the file is relative to the file, a setting's to the project folder; a bare program
    is looked up.
    """
    named = option.kind == "path" or (option.kind == "program" and "/" in str(value))
    if not named or not isinstance(value, str) or not value or value.startswith(("/", "~")):
        return value
    return os.path.relpath(folder / value, cwd)


def _refuse_unknown(names: Iterable[str], known: Iterable[str], text: str) -> None:
    # Compared without the prefix, which would make any two variables alike.
    plain = {name.lower().removeprefix("dct_"): name for name in known}
    for name in sorted(set(names).difference(plain.values())):
        close = difflib.get_close_matches(name.lower().removeprefix("dct_"), plain, 1)
        mend = f"did you mean {plain[close[0]]}?" if close else "see dct run --help"
        raise ConfigError(f"{text.replace('{}', name)}; {mend}")


def _value(option: Option, given: _Given, home: str) -> object:
    """The valid value of its type; raises ConfigError with origin, value and mend."""
    try:
        value = accept(option, given.value, text=given.text)
    except UnquotedError as exc:
        raise ConfigError(
            f"{given.origin}: '{str(given.value).partition('://')[0]}://**' {exc}"
        ) from None
    except AddressError as exc:
        raise ConfigError(f"{given.origin}: {shown(option, given.value)} {exc}") from None
    except ValueError as exc:
        raise ConfigError(
            f"{given.origin}: {shown(option, given.value)} is not valid; give {expected(option)}"
        ) from exc
    if option.kind in ("path", "program") and str(value).startswith("~/"):
        return home + str(value)[1:]
    return value


def _respell(url: str, local: str) -> str:
    """The same socket in redis-py's words (`unix`, `db`) or in kombu's (`redis+socket`,
    `virtual_host`).
    """
    scheme, colon, rest = url.partition("://")
    if scheme not in ("unix", "redis+socket"):
        return url
    old, new = ("virtual_host=", "db=") if local == "unix" else ("db=", "virtual_host=")
    return local + colon + rest.replace("?" + old, "?" + new).replace("&" + old, "&" + new)


def _why(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
