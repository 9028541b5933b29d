"""The table of settings: every option, its type, where it is given, and which values are valid."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal

from dct_celery.core import backends, globs, ids
from dct_celery.core.option import Group, Kind, Option
from dct_celery.security import masking

DEFAULT_STORE = "redis://127.0.0.1:6379/0"
#: `DCT_*` variables that our own processes pass to one another; never settings, never refused.
INTERNAL_VARIABLES = frozenset(
    {
        "DCT_SLOT",
        "DCT_PROCESS",
        "DCT_TEST_PROCESS",
        "DCT_IN_SEQUENCE",
        "DCT_PG_BIN",
        "DCT_MAINTENANCE",
    }
)
_STORE_SCHEMES = ("redis", "rediss", "unix", "redis+socket")
_BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps", "redis+socket", "unix")


def _option(
    group: Group, kind: Kind, text: str, *flags: str, default: object = None, **more: Any
) -> Any:
    option = Option(kind, group, text, default, flags, **more)
    return field(default=default, repr=not option.secret, metadata={"option": option})


_tests = partial(_option, "tests")
_fleet = partial(_option, "fleet")
_code = partial(_option, "code")
_database = partial(_option, "database")
_limits = partial(_option, "limits")
_report = partial(_option, "report")
_timings = partial(_option, "timings")
_worker = partial(_option, "worker")
_ENV = {
    "pattern": r"[A-Za-z_*?\[][\w*?\[\]!-]*",
    "rule": 'names or globs such as AWS_*, without "=" or a value',
}
_POOL = {"pattern": r"[a-z0-9_-]{1,32}", "rule": '1 to 32 of a-z, 0-9, "_", "-"'}
_RUN_ID = {"pattern": ids.RUN_ID, "rule": ids.RUN_ID_RULE}
_GLOBS = {"pattern": globs.PATTERN, "rule": globs.RULE}
#: More than any machine has room for: a slip of the finger, which would exhaust this one.
_MOST_LOCAL_SLOTS = 1024
#: The value of `benchmark` that names no file.
PRINTED = "-"
#: Minimum length of a signing key: `dct keygen` makes one of 43 characters.
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
    """Every setting, typed; None means "not given".

    Relative paths are relative to `project_dir`; times are seconds.
    """

    labels: tuple[str, ...] = ()
    #: Absolute path of the folder that the command was started in.
    project_dir: str = "."

    backend: str = _tests(
        "str",
        "Test framework: django, pytest, or module:attribute of a backend of your own; default: by"
        " the project's files",
        default=backends.DJANGO,
        metavar="NAME",
        pattern=backends.PATTERN,
        rule=backends.RULE,
    )
    command: str | None = _tests(
        "str",
        "The project's own test command; default: python manage.py test, or python -m django test"
        " where there is no manage.py",
        metavar="LINE",
    )
    settings: str | None = _tests("str", "Django settings module", metavar="DOTTED", **_DOTTED)
    pythonpath: str | None = _tests("path", "Folder to put on sys.path", metavar="DIR")
    k: tuple[str, ...] = _tests(
        "list",
        "Run only tests whose name contains this text or matches this glob",
        "-k",
        default=(),
    )
    tag: tuple[str, ...] = _tests("list", "Run only tests with this tag", default=(), metavar="TAG")
    exclude_tag: tuple[str, ...] = _tests(
        "list", "Skip tests with this tag", default=(), metavar="TAG"
    )
    pattern: str | None = _tests(
        "str",
        "File names of test modules; Django's default: test*.py",
        "-p",
        "--pattern",
        metavar="GLOB",
    )
    top_level_directory: str | None = _tests(
        "path", "Top-level folder for test discovery", "-t", "--top-level-directory", metavar="DIR"
    )
    failfast: bool = _tests(
        "bool", "Stop after the first failure", "-x", "--failfast", default=False
    )
    maxfail: int | None = _tests("int", "Stop after N failures", minimum=1)
    last_failed: bool = _tests(
        "bool",
        "Run only the tests that failed when they last ran; all, if none did",
        "--lf",
        "--last-failed",
        default=False,
    )
    failed_first: bool = _tests(
        "bool",
        "Run the tests that failed when they last ran before all others",
        "--ff",
        "--failed-first",
        default=False,
    )
    changed_first: str | None = _tests(
        "str",
        "Run the tests of files that differ from the git commit REF before all others; without it:"
        " from HEAD. Give it as --changed-first=REF",
        bare="HEAD",
        follower=r"HEAD([~^@]\S*)?",
        metavar="[REF]",
    )
    shuffle: int | Literal["auto"] | None = _tests(
        "int",
        "Run the tests in random order; without SEED, one is chosen and printed",
        bare="auto",
        metavar="[SEED]",
    )
    reverse: bool = _tests("bool", "Run the tests in reverse order", default=False)
    buffer: bool = _tests("bool", "Print only the output of failing tests", default=False)
    debug_sql: bool = _tests("bool", "Print the SQL of failing tests", default=False)
    timing: bool = _tests("bool", "Print how long each part of the run took", default=False)
    durations: int | None = _tests("int", "Print the N slowest tests (0: all)", minimum=0)
    verbosity: int = _tests(
        "int",
        "How much to print, from 0 to 3",
        "-v",
        "--verbosity",
        default=1,
        minimum=0,
        maximum=3,
        metavar="LEVEL",
    )
    coverage: bool = _tests(
        "bool",
        "Measure coverage of the project's code with coverage.py, as coverage run does, and write"
        " its data file",
        default=False,
    )
    testrunner: str | None = _tests(
        "str",
        "Test runner class; default: the setting TEST_RUNNER",
        "--testrunner",
        "--runner",
        metavar="DOTTED",
        **_DOTTED,
    )
    extra: tuple[str, ...] = _tests(
        "list", "Argument passed unchanged to the project's test runner", default=(), metavar="ARG"
    )

    store: str = _fleet(
        "url",
        "URL of the store, a Redis or Valkey server",
        default=DEFAULT_STORE,
        choices=_STORE_SCHEMES,
        secret=True,
    )
    broker: str = _fleet(
        "url",
        "URL of the Celery broker; default: the store",
        default="",
        choices=_BROKER_SCHEMES,
        secret=True,
    )
    pool: str = _fleet(
        "str", "Pool of workers that runs the tests", default="default", metavar="NAME", **_POOL
    )
    local: int | None = _fleet(
        "int",
        "Run on this machine alone with N slots; without N, one per core, memory permitting",
        bare=0,
        minimum=0,
        maximum=_MOST_LOCAL_SLOTS,
        metavar="[N]",
    )
    parallel: int | Literal["auto"] | None = _fleet(
        "int",
        "Use at most N slots at a time; default: all of the pool, or with --local one per core",
        "-n",
        "--parallel",
        bare="auto",
        minimum=1,
        metavar="[N]",
        aliases=("DJANGO_TEST_WORKERS",),
    )
    local_fallback: int | None = _fleet(
        "int",
        "Run on this machine with N slots (without N, as --local) if no worker connects within"
        " --fallback-after",
        bare=0,
        minimum=0,
        maximum=_MOST_LOCAL_SLOTS,
        metavar="[N]",
    )
    fallback_after: float = _fleet(
        "float",
        "Seconds without a worker after which --local-fallback takes effect",
        default=15.0,
        minimum=0,
    )
    sequential: bool = _fleet(
        "bool",
        "Run the project's own test command here, in sequence",
        default=False,
        aliases=("!DJANGO_ENABLE_CONCURRENT",),
    )
    fallback: Literal["none", "sequential"] = _fleet(
        "str",
        "Where tests cannot be distributed (a database of another vendor, a guard that refuses a"
        " name): none ends the run, sequential runs the project's own command",
        default="none",
        choices=("none", "sequential"),
    )
    python: str | None = _fleet(
        "program",
        "Python interpreter of the project on this machine, if dct has an environment of its own;"
        " default: the one that runs dct. Each worker has its own DCT_PYTHON",
        variable="DCT_PYTHON",
    )
    log_level: Literal["debug", "info", "warning", "error"] = _fleet(
        "str",
        "Least level of the log of a worker that this command starts; other workers have Celery's"
        " own option, -l",
        default="info",
        choices=("debug", "info", "warning", "error"),
        metavar="LEVEL",
    )
    run_id: str | None = _fleet(
        "str", "Id of the run; default: a random one", metavar="ID", **_RUN_ID
    )
    env: tuple[str, ...] = _fleet(
        "list",
        "Environment variable (name or glob) to pass to the tests",
        default=(),
        metavar="NAME",
        **_ENV,
    )
    signing_key: str | None = _fleet(
        "str",
        "Key that signs the pool's messages; safer in a file named by DCT_SIGNING_KEY_FILE",
        secret=True,
        metavar="KEY",
        **_KEYS,
    )
    insecure: bool = _fleet(
        "bool",
        "Run without a signing key: anyone who can reach the store can run code on workers",
        default=False,
    )
    ignore_package: tuple[str, ...] = _fleet(
        "list",
        "Package (name or glob) whose version may differ on workers",
        default=(),
        metavar="NAME",
    )
    ignore_env: tuple[str, ...] = _fleet(
        "list",
        "Environment variable (name or glob) that the project reads and that may differ on workers",
        default=(),
        metavar="NAME",
        **_ENV,
    )

    code: Literal["snapshot", "checkout"] = _code(
        "str",
        "How workers get the code: snapshot sends it, checkout verifies the worker's own copy",
        default="snapshot",
        choices=("snapshot", "checkout"),
    )
    include: tuple[str, ...] = _code(
        "list",
        "Send these files although version control ignores them",
        default=(),
        metavar="GLOB",
        **_GLOBS,
    )
    exclude: tuple[str, ...] = _code(
        "list", "Do not send these files to workers", default=(), metavar="GLOB", **_GLOBS
    )

    create_db: bool = _database(
        "bool",
        "Rebuild the template databases instead of reusing those of earlier runs",
        default=False,
        aliases=("!DJANGO_TEST_TEMPLATE_CACHE",),
    )
    keepdb: bool = _database(
        "bool",
        "As Django's: templates are kept anyway, unless --create-db is given",
        default=False,
    )
    keep_databases: Literal["auto", "always", "never"] = _database(
        "str",
        "Keep clean clones for the next run: always, never, or auto (where cloning is slow)",
        default="auto",
        choices=("auto", "always", "never"),
        metavar="WHEN",
    )
    template_depends: tuple[str, ...] = _database(
        "list",
        "Files (glob below the project folder) that data migrations read; a change rebuilds the"
        " template databases",
        default=(),
        metavar="GLOB",
    )
    allow_database: tuple[str, ...] = _database(
        "list",
        "Configured database name (glob) that looks like production but is not",
        default=(),
        metavar="PATTERN",
    )
    deny_database: tuple[str, ...] = _database(
        "list",
        "Configured database name (glob) that is production but does not look like it",
        default=(),
        metavar="PATTERN",
    )
    deny_db_host: tuple[str, ...] = _database(
        "list",
        "Database server (glob of HOST or HOST:PORT) that tests must never reach",
        default=(),
        metavar="HOST",
    )

    test_timeout: float | None = _limits(
        "float",
        "Seconds that one test may take, or none; default: ten times its last duration, at least"
        " 60, and 600 for a test that was never timed",
        minimum=0.1,
        off=True,
        aliases=("DJANGO_TEST_TIMEOUT_PER_TEST",),
    )
    fixture_timeout: float | None = _limits(
        "float",
        "Seconds that a class or module fixture, or importing the project, may take, or none;"
        " default: ten times its last duration, at least 300",
        minimum=0.1,
        off=True,
    )
    crash_budget: int | None = _limits(
        "int",
        "Stop the run after more than N crashes of test processes (0: never); default: 5, or 2% of"
        " the chunks, whichever is more",
        minimum=0,
    )
    timeout: float | None = _limits(
        "float",
        "Seconds that the whole run may take; default: no limit",
        minimum=0.1,
        aliases=("DJANGO_TEST_TIMEOUT",),
    )
    queue_timeout: float = _limits(
        "float", "Seconds to wait for the first worker", default=60.0, minimum=0
    )
    chunk_seconds: float | None = _limits(
        "float", "Upper limit for the predicted seconds of a chunk; default: 5", minimum=0.1
    )
    reruns: int = _limits(
        "int",
        "Run a failed test again, up to N times; if it then passes, it counts as flaky",
        default=0,
        minimum=0,
    )
    reruns_budget: float = _limits(
        "float",
        "Percentage of all tests that may fail before --reruns is switched off",
        default=10.0,
        minimum=0,
        maximum=100,
        metavar="PERCENT",
        rule="a percentage",
    )

    settle: float | None = _limits(
        "float",
        "Slot-seconds that may be spent on finding out whether failures depend on the order of"
        " tests (0: none); default: 60, or 10% of what the run takes, whichever is more; none with"
        " --failfast or --maxfail",
        minimum=0,
    )

    junit_xml: str | None = _report(
        "path", "Write a JUnit XML report to this file", "--junit-xml", "--junitxml"
    )
    junit_family: Literal["dct", "xunit2"] = _report(
        "str",
        "Dialect of the JUnit XML report; xunit2 follows its schema strictly",
        default="dct",
        choices=("dct", "xunit2"),
    )
    json: str | None = _report("path", "Write a JSON report to this file")
    artifacts: str | None = _report(
        "path",
        "Folder for files of tests: the whole output of each failing test that printed more than"
        " 64 KiB; default: they are not kept",
    )

    log_file: str | None = _report(
        "path", "Keep the log of a worker that this command starts in this file"
    )

    benchmark: str | None = _report(
        "path",
        "Print a benchmark report; with PATH, whose name ends in .json, write it as JSON, too",
        bare=PRINTED,
        follower=r".+\.json",
        metavar="[PATH]",
        aliases=("DJANGO_TEST_BENCHMARK",),
    )
    metrics: bool = _report(
        "bool",
        "Do not count queries, memory and output of tests",
        default=True,
    )
    artifact_path: tuple[str, ...] = _report(
        "list",
        "Bring files that tests write there (glob below the root of the code) into this checkout",
        default=(),
        metavar="GLOB",
        **_GLOBS,
    )

    timings_file: str | None = _timings(
        "path",
        "Keep the timings of the project in this file, too: read when a run begins, if it is there,"
        " and written at its end; default: the Django setting TEST_TIMINGS_FILE",
    )
    import_timings: str | None = _timings(
        "path",
        "Plan with the timings in this file (of dct, django-concurrent-test, pytest-split or"
        " Knapsack) where no run has measured",
    )
    import_timings_csv: str | None = _timings("path", "The same from a file in CSV")
    export_timings: str | None = _timings(
        "path", "Write the timings of the project to this file at the end of the run"
    )
    export_timings_csv: str | None = _timings("path", "The same in CSV")

    work_dir: str | None = _worker("path", "Folder for code, unsent records and SQLite files")
    checkout: str | None = _worker("path", "This worker's checkout, for runs with --code checkout")
    warm: str | None = _worker(
        "path",
        "Folder of the project in this worker's checkout: when the worker starts, it prepares for a"
        " run there, as by dct warm --code checkout",
    )
    worker_python: str | None = _worker(
        "program",
        "Python interpreter of the project on this worker, if the worker has an environment of its"
        " own; default: the one that runs the worker",
        variable="DCT_PYTHON",
    )
    private_tree: bool = _worker(
        "bool",
        "Each test process has the code for itself, so that no other sees what it writes there",
        default=True,
    )
    lease_seconds: float = _worker(
        "float",
        "Seconds without a renewal after which a slot loses its chunk",
        default=15.0,
        minimum=1,
    )
    templates_kept: int = _worker(
        "int", "Templates and idle clones to keep per database server", default=30, minimum=0
    )
    templates_megabytes: int = _worker(
        "int",
        "Megabytes of templates and idle clones to keep per database server",
        default=20_000,
        minimum=0,
    )
    keep_days: float = _worker(
        "float", "Days until an unused template or idle clone is dropped", default=14.0, minimum=0
    )
    clones_at_once: int = _worker(
        "int",
        "Clones that are made at a time on one database server; 0: as many as suits the vendor",
        default=0,
        minimum=0,
    )
    max_operations: int = _worker(
        "int",
        "Statements after which a database connection is replaced; 0: never",
        default=1000,
        minimum=0,
        aliases=("DJANGO_TEST_MAX_OPERATIONS",),
    )
    health_check_seconds: float = _worker(
        "float",
        "Idle seconds after which a database connection is checked before use",
        default=60.0,
        minimum=0,
        aliases=("DJANGO_TEST_HEALTH_CHECK_INTERVAL",),
    )
    dynamic_scaling: bool = _worker(
        "bool",
        "Slots stand back while memory is short",
        default=True,
        aliases=("DJANGO_TEST_DYNAMIC_SCALING",),
    )
    min_slots: int = _worker(
        "int",
        "So many slots work however short memory is",
        default=1,
        minimum=1,
        aliases=("DJANGO_TEST_MIN_WORKERS",),
    )
    max_slots: int | None = _worker(
        "int",
        "Most slots of a worker or local run whose number is left to us (auto); default: those that"
        " the machine has room for",
        minimum=1,
        aliases=("DJANGO_TEST_MAX_WORKERS",),
    )
    database_retries: int = _worker(
        "int",
        "How often a step is tried again that a database server refused for want of connections or"
        " disk, or because a clone failed",
        default=3,
        minimum=0,
        aliases=("DJANGO_TEST_MAX_RETRIES",),
    )
    retry_delay: float = _worker(
        "float",
        "Seconds before the first of these retries; each further pause is twice as long",
        default=1.0,
        minimum=0,
        maximum=60,
        aliases=("DJANGO_TEST_RETRY_DELAY",),
    )
    log_format: Literal["text", "json"] = _worker(
        "str",
        "How the worker writes its log: text, or json for one object in each line",
        default="text",
        choices=("text", "json"),
    )
    drain_seconds: float = _worker(
        "float",
        "Seconds that a stopping worker may spend on its current tests",
        default=120.0,
        minimum=0,
    )

    @property
    def signing_keys(self) -> tuple[str, ...]:
        """The first key signs, all are accepted: so a pool can change its key without a pause."""
        return tuple((self.signing_key or "").split())

    @property
    def own_key(self) -> str:
        """The key that signs; empty without one."""
        return next(iter(self.signing_keys), "")

    @property
    def most_slots(self) -> int | None:
        """Slots that may work at a time; None: all."""
        return self.parallel if isinstance(self.parallel, int) else None

    def room(self, slots: int) -> int:
        """How many of the slots that the machine has room for are used."""
        return min(slots, self.max_slots or slots)

    def capped(self, slots: int) -> int:
        """So many slots, or as many of them as may work at a time."""
        return min(slots, self.most_slots or slots)

    def secrets(self) -> tuple[str, ...]:
        """Values that must not leave this process."""
        return (
            *self.signing_keys,
            *masking.secrets_of_url(self.store),
            *masking.secrets_of_url(self.broker),
        )

    @property
    def benchmark_file(self) -> str | None:
        """Where the benchmark report is to be written, beside being printed."""
        return None if self.benchmark == PRINTED else self.benchmark

    def __post_init__(self) -> None:
        object.__setattr__(self, "broker", self.broker or respell(self.store, "redis+socket"))


def _named(option: Option, name: str) -> Option:
    prefix = "--no-" if option.switches_off else "--"
    flag = () if option.group == "worker" else (prefix + name.replace("_", "-"),)
    return replace(
        option,
        name=name,
        flags=option.flags or flag,
        variable=option.variable or "DCT_" + name.upper(),
    )


OPTIONS: tuple[Option, ...] = tuple(
    _named(f.metadata["option"], f.name) for f in fields(Settings) if f.metadata
)
#: Options that name a file which a run reads when it begins, and never again.
INPUTS = ("import_timings", "import_timings_csv")
#: Options that name a file or folder which the run writes. None of that is sent to the workers.
OUTPUTS = tuple(
    option.name
    for option in OPTIONS
    if option.group in ("report", "timings") and option.kind == "path" and option.name not in INPUTS
)
#: Those that are one report in one file, which an error replaces if the run has no results.
REPORTS = ("junit_xml", "json", "benchmark")


def respell(url: str, local: str) -> str:
    """The same socket in the spelling of redis-py (`unix`, `db`) or of kombu.

    Kombu's is `redis+socket` and `virtual_host`.
    """
    scheme, colon, rest = url.partition("://")
    if scheme not in ("unix", "redis+socket"):
        return url
    old, new = ("virtual_host=", "db=") if local == "unix" else ("db=", "virtual_host=")
    return local + colon + rest.replace("?" + old, "?" + new).replace("&" + old, "&" + new)
