"""What the clone benchmark plays on.

A generated project, servers on tmpfs and on disk, dumps to compare.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from dct_celery.adapters.embedded import postgres as embedded_postgres
from dct_celery.adapters.embedded.binaries import find_postgres
from dct_celery.ports import DatabaseSpec
from tests.support import mariadb as embedded_mariadb

APPS = 20
_ENGINES = {"postgresql": "django.db.backends.postgresql", "mysql": "django.db.backends.mysql"}
_SETTINGS = """import json, os
SECRET_KEY = "bench"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [{apps}]
DATABASES = {{"default": json.loads(os.environ["BENCH_DATABASE"])}}
"""
#: On PostgreSQL 1 + 2 + 2 + 1 indexes, and one for each foreign key; on MySQL fewer.
_MODEL = """
class Table{number}(models.Model):
    slug = models.CharField(max_length=60, unique=True)
    title = models.CharField(max_length=60, db_index=True)
    day = models.DateField(null=True, db_index=True)
    price = models.DecimalField(max_digits=9, decimal_places=2, null=True)
    text = models.TextField(default="")
{keys}{meta}"""
_KEY = '    key{n} = models.ForeignKey("{target}", models.CASCADE, null=True, related_name="+")\n'
_MANY = '    many = models.ManyToManyField("{target}", related_name="+")\n'
_META = (
    '\n    class Meta:\n        indexes = [models.Index(fields=["day", "title"],'
    ' name="both_{number}")]\n'
)


@dataclass(frozen=True, slots=True)
class Place:
    """A server to measure on."""

    #: postgresql | mariadb | mysql
    label: str
    #: tmpfs | disk | given
    medium: str
    spec: DatabaseSpec
    #: Folder with the dump program of this server, first in PATH.
    programs: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def project(folder: Path, tables: int) -> Path:
    """A project of 20 apps and so many tables: 21 in 22 are models, the rest many-to-many.

    Two foreign keys for most.
    """
    models = round(tables / 1.05)
    of_app = {app: [n for n in range(models) if n % APPS == app] for app in range(APPS)}
    folder.mkdir(parents=True)
    (folder / "bench_settings.py").write_text(
        _SETTINGS.format(apps=", ".join(f'"app{app}"' for app in range(APPS)))
    )
    for app, numbers in of_app.items():
        (folder / f"app{app}").mkdir()
        (folder / f"app{app}" / "__init__.py").touch()
        text = "".join(_model(number, models, tables) for number in numbers)
        (folder / f"app{app}" / "models.py").write_text("from django.db import models\n\n" + text)
    return folder


def _model(number: int, models: int, tables: int) -> str:
    """Keys point at earlier tables; the first tenth has one key, the others have two."""
    targets = [
        _name(number * step % max(number, 1))
        for step in ((7,) if number < models / 10 else (7, 13))
    ]
    keys = "".join(_KEY.format(n=n, target=target) for n, target in enumerate(targets))
    if number >= models - (tables - models):
        keys += _MANY.format(target=_name(number // 2))
    return _MODEL.format(
        number=number, keys=keys, meta=_META.format(number=number) if number % 5 < 2 else ""
    )


def _name(number: int) -> str:
    return f"app{number % APPS}.Table{number}"


# -- servers ---------------------------------------------------------------------------


@contextlib.contextmanager
def place(label: str, medium: str, folder: Path) -> Iterator[Place]:
    """A private server.

    "tmpfs": the settings of the embedded ones; "disk": stock settings, data below `folder`.
    """
    folder.mkdir(parents=True)
    folder.chmod(0o755)  # the server's account enters it
    start = {"postgresql": _postgres, "mariadb": _mariadb}[label]
    with contextlib.ExitStack() as stack:
        if medium == "disk":
            # The embedded servers know throw-away settings alone; here the stock ones are the
            # point.
            nowhere, few = folder / "no-memory", {"max_connections": "200"}
            stack.enter_context(mock.patch.multiple(embedded_postgres, SHM=nowhere, _SETTINGS=few))
            stack.enter_context(mock.patch.multiple(embedded_mariadb, SHM=nowhere, SETTINGS={}))
        yield stack.enter_context(start(medium, folder))


@contextlib.contextmanager
def _postgres(medium: str, folder: Path) -> Iterator[Place]:
    with embedded_postgres.EmbeddedPostgres.start(folder) as server:
        spec = _spec("postgresql", server.host, str(server.port), server.user, server.password)
        yield Place("postgresql", medium, spec, str(find_postgres().bin))


@contextlib.contextmanager
def _mariadb(medium: str, folder: Path) -> Iterator[Place]:
    with embedded_mariadb.EmbeddedMariaDB.start(folder) as server:
        yield Place(
            "mariadb",
            medium,
            _spec("mysql", server.host, str(server.port), server.user, server.password),
        )


def given(text: str, programs: str) -> Place:
    """A MySQL that runs already, by HOST:PORT:USER:PASSWORD."""
    host, port, user, password = text.split(":", 3)
    return Place("mysql", "given", _spec("mysql", host, port, user, password), programs)


def _spec(vendor: str, host: str, port: str, user: str, password: str) -> DatabaseSpec:
    return DatabaseSpec("default", vendor, "bench", host, port, user, password)


# -- Django ----------------------------------------------------------------------------


class Django:
    """The process of `clone_django` on one server; a context manager that ends it."""

    def __init__(self, folder: Path, where: Place) -> None:
        spec = where.spec
        database: dict[str, object] = {
            "ENGINE": _ENGINES[spec.vendor],
            "NAME": spec.name,
            "USER": spec.user,
        }
        database |= {"HOST": spec.host, "PORT": spec.port, "PASSWORD": spec.password}
        database |= {"TEST": {"CHARSET": "utf8mb4"}} if spec.vendor == "mysql" else {}
        own = {
            "DJANGO_SETTINGS_MODULE": "bench_settings",
            "PYTHONPATH": str(folder),
            "BENCH_DATABASE": json.dumps(database),
        }
        self._log = folder / "django.log"
        with self._log.open("w") as log:  # MySQL's mysqldump warns at every call
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("clone_django.py"))],
                env=_path(where) | own,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, do: str, **words: Any) -> tuple[float, Any]:
        """Seconds that the step took, and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **words}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"Django's side ended at {do}:\n{self._log.read_text()[-3000:]}")
        said = json.loads(line)
        return said["seconds"], said["answer"]

    def __enter__(self) -> Django:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


# -- dumps -----------------------------------------------------------------------------


def dump(where: Place, name: str) -> str:
    """Hash of a logical dump of everything in the database.

    SystemExit without the vendor's dump program.
    """
    spec, environment = where.spec, _path(where)
    at = ["-h", spec.host]
    if spec.vendor == "postgresql":
        environment["PGPASSWORD"] = spec.password
        argv = ["pg_dump", *at, "-p", spec.port, "-U", spec.user, name]
    else:
        environment["MYSQL_PWD"] = spec.password
        all_of_it = [
            "--routines",
            "--events",
            "--triggers",
            "--skip-comments",
            "--skip-dump-date",
            "--no-tablespaces",
        ]
        argv = ["mysqldump", *at, "-P", spec.port, "-u", spec.user, *all_of_it, name]
        argv[-1:-1] = ["--set-gtid-purged=OFF"] if where.label == "mysql" else []
    program = shutil.which(argv[0], path=environment["PATH"])
    if program is None:
        raise SystemExit(f"{argv[0]} is not installed; the clones are compared by its dumps")
    done = subprocess.run(
        [program, *argv[1:]], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout.strip():
        raise SystemExit(f"{argv[0]} {name} failed: {done.stderr}")
    # pg_dump guards each dump with a random word.
    lines = [
        line
        for line in done.stdout.splitlines()
        if not line.startswith(("\\restrict", "\\unrestrict"))
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _path(where: Place) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "DJANGO_", "DCT_", "PYTHON", "MYSQL"))
    }
    return kept | {
        "PATH": os.pathsep.join(filter(None, [where.programs, os.environ.get("PATH", os.defpath)]))
    }
