"""Claims about the schema hash of a loader.

Equal where templates may be shared, another where they may not.

Every hash comes from a real loader, so each is of another process.
"""

from __future__ import annotations

import ast
import itertools
import shutil
import struct
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path

import django
import pytest

from dct_celery.testproc.django.sources import imports
from tests.support.loaders import loader
from tests.support.projects import make_project

_SETTINGS = """
    import os, tempfile
    INSTALLED_APPS = [
        "django.contrib.contenttypes", "django.contrib.auth", "shelf.apps.Shelf",
        "plain", "bare", "empty",
    ]
    SECRET_KEY = os.urandom(16).hex()
    MEDIA_ROOT = tempfile.mkdtemp()
    SCRATCH = tempfile.mkdtemp()
    DOWNLOADS = os.path.expanduser("~/downloads")
    HERE = os.path.dirname(os.path.abspath(__file__))
    CALLED = lambda: None
    THING = object()
    from django.urls import reverse_lazy
    from django.utils.functional import SimpleLazyObject
    HOME_PAGE = reverse_lazy("no such page")
    LATER = SimpleLazyObject(lambda: 1 / 0)
    NAMES = {"one", "two", "three", "four", "five"}
    SHELVES = 3
    LANGUAGE_CODE = "de"
    LOCALE_PATHS = [os.path.join(HERE, "locale")]
    ROOT_URLCONF = "urls"
    FIXTURE_DIRS = [os.path.join(HERE, "more_fixtures")]
    DATABASE_ROUTERS = ["routing.Router"]
    TEST_RUNNER = "running.Runner"
    DATABASES = {"default": {"ENGINE": "engine", "NAME": ":memory:"}}
    TEMPLATES = [{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [os.path.join(HERE, "templates")],
    }]
"""
#: Every file of the project that has a part in a claim.
_FILES = {
    "shelf/models.py": (
        """
        import uuid
        from django.db import models
        from django.utils.translation import gettext_lazy as _

        def place(instance, name):
            return name

        class Book(models.Model):
            title = models.CharField(_("title"), max_length=100)
            key = models.UUIDField(default=uuid.uuid4)
            kind = models.CharField(max_length=1, choices=[("a", _("first"))], default="a")
            cover = models.FileField(upload_to=place)
    """
    ),
    # Nothing in a migration leads to this app.
    "plain/__init__.py": "",
    "plain/models.py": (
        """
        import decimal
        from django.core.validators import RegexValidator
        from django.db import models
        from django.db.models.functions import Lower
        from django.utils.translation import gettext_lazy as _
        from plain.fields import Shade

        class Thing(models.Model):
            name = models.CharField(_("name"), max_length=5, validators=[RegexValidator("^a")])
            price = models.DecimalField(
                max_digits=5, decimal_places=2, default=decimal.Decimal("1.5"))
            shade = Shade(null=True)

            class Meta:
                verbose_name = _("thing")
                constraints = [
                    models.CheckConstraint(condition=models.Q(name__gt=""), name="named")]
                indexes = [models.Index(Lower("name").desc(), name="by_name")]
                permissions = [("lend", "Can lend")]
    """
    ),
    "plain/fields.py": (
        """
        from django.db import models

        class Shade(models.Field):
            def db_type(self, connection):
                return "varchar(7)"
    """
    ),
    "shelf/migrations/0001_initial.py": (
        """
        import shelf.models
        from django.db import migrations, models
        from ..seeds import rows

        def fill(apps, editor):
            from django.core.management import call_command
            from shelf.late import more
            call_command("seed")
            rows()

        class Migration(migrations.Migration):
            operations = [
                migrations.CreateModel("Book", [
                    ("id", models.AutoField(primary_key=True)), ("title", models.TextField())]),
                migrations.RunPython(fill),
            ]
    """
    ),
    "shelf/migrations/0002_more.sql": "SELECT 1",
    "shelf/seeds.py": (
        "from shelf.deeper.inner import (  # with a remark (as here)\n    DEPTH,\n)\n\ndef rows():"
        " pass\n"
    ),
    "shelf/deeper/__init__.py": "",
    "shelf/deeper/inner.py": "DEPTH = 1",
    "shelf/late.py": "more = 1",
    "shelf/apps.py": (
        """
        from functools import partial
        from django.apps import AppConfig
        from django.db.models.signals import post_migrate, post_save
        from shelf.handlers import after
        from shelf.savers import saved

        class Shelf(AppConfig):
            name = "shelf"
            def ready(self):
                post_migrate.connect(partial(after, 1), sender=self, weak=False)
                post_save.connect(saved)
    """
    ),
    "shelf/handlers.py": "from shelf.groups import GROUPS\n\ndef after(one, **_): pass\n",
    "shelf/savers.py": "def saved(**_): pass\n",
    "shelf/groups.py": "GROUPS = ['readers']",
    "shelf/views.py": "VIEW = 1",
    "shelf/management/commands/seed.py": "SEED = 1",
    "shelf/management/commands/report.py": "REPORT = 1",
    "bare/management/commands/migrate.py": "from bare.steps import STEPS",
    "bare/management/commands/createcachetable.py": "TABLE = 1",
    "bare/steps.py": "STEPS = 1",
    "shelf/fixtures/books.json": "[]",
    "shelf/sql/trigger.txt": "one",
    "more_fixtures/all.json": "[]",
    "templates/page.html": "<p>",
    "data/rows.csv": "a,b",
    "routing.py": (
        "class Router:\n    def allow_migrate(self, db, app_label, **hints): return None\n"
    ),
    "bare/__init__.py": "",
    "empty/__init__.py": "",
    "running.py": (
        "from django.test.runner import DiscoverRunner\n\nclass Runner(DiscoverRunner):\n    pass\n"
    ),
    "engine/__init__.py": "",
    "engine/base.py": (
        """
        from django.db.backends.sqlite3 import base
        from .schema import Editor

        class DatabaseWrapper(base.DatabaseWrapper):
            SchemaEditorClass = Editor
    """
    ),
    "engine/schema.py": (
        """
        from django.db.backends.sqlite3.schema import DatabaseSchemaEditor

        class Editor(DatabaseSchemaEditor):
            pass
    """
    ),
    "urls.py": "import shelf.views\nurlpatterns = []\n",
    "test_models.py": (
        """
        from django.db import models
        from django.test import TestCase

        class Extra(models.Model):
            size = models.IntegerField()
            class Meta:
                app_label = "plain"

        class Uses(TestCase):
            def test_it(self):
                pass
    """
    ),
}


class Site:
    """A project and the hashes of loaders that load it."""

    def __init__(self, folder: Path) -> None:
        self._base = folder
        self.root = make_project(
            folder / "project", settings=textwrap.dedent(_SETTINGS), files=_FILES
        )
        self._numbers = itertools.count()

    def hash(
        self, *argv: str, depends: tuple[str, ...] = (), variables: dict[str, str] | None = None
    ) -> str:
        folder = self._base / f"run-{next(self._numbers)}"
        with loader(self.root, folder, *argv, depends=depends, variables=variables) as process:
            return process.loaded.schema

    def moved(self) -> None:
        """The same tree under a path of another length."""
        (self._base / "another place").mkdir()
        self.root = self.root.rename(self._base / "another place" / "x")

    def change(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def setting(self, text: str) -> None:
        path = self.root / "site_settings.py"
        path.write_text(path.read_text() + textwrap.dedent(text))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, str]:
    """The project as it is written, and its hash; not to be changed."""
    site = Site(tmp_path_factory.mktemp("original"))
    return site, site.hash()


@pytest.fixture
def site(original: tuple[Site, str], tmp_path: Path) -> Site:
    """A project like the original, to be changed.

    It lies elsewhere, so that every equality is one of two places.
    """
    return Site(tmp_path)


def _translate(folder: Path, text: str, translated: str) -> None:
    """Writes a message file with this one text."""
    texts = {"": "Content-Type: text/plain; charset=UTF-8\n", text: translated}
    words = [word.encode() for word in (*texts, *texts.values())]
    starts = itertools.accumulate((len(word) + 1 for word in words), initial=28 + 8 * len(words))
    table = b"".join(
        struct.pack("<2I", len(word), start) for word, start in zip(words, starts, strict=False)
    )
    head = struct.pack("<7I", 0x950412DE, 0, len(texts), 28, 28 + 8 * len(texts), 0, 0)
    folder.mkdir(parents=True)
    (folder / "django.mo").write_bytes(head + table + b"\0".join(words) + b"\0")


Change = Callable[[Site], object]
_SAME: dict[str, Change] = {
    "nothing, in another place": lambda s: None,
    "the place of the tree": Site.moved,
    "a view": lambda s: s.change("shelf/views.py", "1", "2"),
    "a command": lambda s: s.change("shelf/management/commands/report.py", "1", "2"),
    "a test": lambda s: s.change("test_models.py", "pass", "self.assertTrue(True)"),
    "a template": lambda s: s.change("templates/page.html", "<p>", "<div>"),
    "a file without a part": lambda s: s.change("data/rows.csv", "a", "c"),
    "a translation": lambda s: _translate(
        s.root / "locale/de/LC_MESSAGES", "name", "Name und Nummer"
    ),
    "bytecode beside migrations": lambda s: (s.root / "shelf/migrations/old.pyc").write_text("x"),
    "secrets": lambda s: s.setting("API_TOKEN = 'x'\nSTRIPE_SECRET_KEY = 'y'\n"),
    "addresses": lambda s: s.setting(
        "ALLOWED_HOSTS = ['build-7']\nCELERY_BROKER_URL = 'redis://seven'\n"
    ),
    "the web side": lambda s: s.setting(
        "MIDDLEWARE = []\nSTATIC_ROOT = '/srv'\nLOGGING = {'version': 1}\n"
    ),
    "where the server is": lambda s: s.setting(
        "DATABASES['default'].update(PASSWORD='x', PORT='7', HOST='seven')\n"
    ),
    "a secret among OPTIONS": lambda s: s.setting(
        "DATABASES['default']['OPTIONS'] = {'passwd': 'x', 'unix_socket': '/y'}\n"
    ),
    "the name of the test database": lambda s: s.setting(
        "DATABASES['default']['TEST'] = {'NAME': 'test_seven'}\n"
    ),
    "a database that nothing uses": lambda s: s.setting(
        "DATABASES['other'] = {**DATABASES['default'], 'NAME': 'o'}\n"
    ),
    "a cache that is no table": lambda s: s.setting(
        "CACHES = {'default': {'BACKEND': 'django.core.cache.backends.dummy.DummyCache'}}\n"
    ),
}
_ANOTHER: dict[str, Change] = {
    "a migration": lambda s: s.change(
        "shelf/migrations/0001_initial.py", "CreateModel(", "CreateModel( "
    ),
    "a new migration": lambda s: shutil.copy(
        s.root / "shelf/late.py", s.root / "shelf/migrations/0003_late.py"
    ),
    "a file beside migrations": lambda s: s.change("shelf/migrations/0002_more.sql", "1", "2"),
    "what a migration imports": lambda s: s.change("shelf/seeds.py", "pass", "return 1"),
    "what that imports": lambda s: s.change("shelf/deeper/inner.py", "1", "2"),
    "the package of that": lambda s: (s.root / "shelf/deeper/__init__.py").write_text("1"),
    "what a function of a migration imports": lambda s: s.change("shelf/late.py", "1", "2"),
    "a receiver of post_migrate": lambda s: s.change("shelf/handlers.py", "pass", "return"),
    "a receiver of every save": lambda s: s.change("shelf/savers.py", "pass", "return"),
    "what a receiver imports": lambda s: s.change("shelf/groups.py", "readers", "writers"),
    "a command that a migration calls": lambda s: s.change(
        "shelf/management/commands/seed.py", "1", "2"
    ),
    "the project's own migrate": lambda s: s.change(
        "bare/management/commands/migrate.py", "STEPS", "STEPS  # all"
    ),
    "what that imports, too": lambda s: s.change("bare/steps.py", "1", "2"),
    "its own createcachetable": lambda s: s.change(
        "bare/management/commands/createcachetable.py", "1", "2"
    ),
    "the runner": lambda s: s.change("running.py", "pass", "tags = []"),
    "a database backend": lambda s: s.change("engine/schema.py", "pass", "more = 1"),
    "a router": lambda s: s.change("routing.py", "None", "True"),
    "a field of the project": lambda s: s.change("plain/fields.py", "(7)", "(8)"),
    "a fixture": lambda s: s.change("shelf/fixtures/books.json", "[]", "[ ]"),
    "a fixture of FIXTURE_DIRS": lambda s: s.change("more_fixtures/all.json", "[]", "[ ]"),
    "an SQL file": lambda s: s.change("shelf/sql/trigger.txt", "one", "two"),
    "a model of a migrated app": lambda s: s.change(
        "shelf/models.py", "max_length=100", "max_length=99"
    ),
    "a model without migrations": lambda s: s.change(
        "plain/models.py", "max_length=5", "max_length=6"
    ),
    "a default": lambda s: s.change("plain/models.py", '"1.5"', '"1.6"'),
    "a table's name": lambda s: s.change(
        "plain/models.py", "class Meta:", "class Meta:\n        db_table = 'things'"
    ),
    "a model of a test": lambda s: s.change(
        "test_models.py", "IntegerField()", "IntegerField(null=True)"
    ),
    "a verbose name": lambda s: s.change("plain/models.py", '_("thing")', '_("object")'),
    "a constraint": lambda s: s.change("plain/models.py", "name__gt", "name__gte"),
    "an index": lambda s: s.change("plain/models.py", ".desc()", ".asc()"),
    "permissions": lambda s: s.change("plain/models.py", "Can lend", "May lend"),
    "the apps": lambda s: s.setting("INSTALLED_APPS = [*INSTALLED_APPS, 'django.contrib.sites']\n"),
    "the order of apps": lambda s: s.setting("INSTALLED_APPS = INSTALLED_APPS[::-1]\n"),
    "the order of apps without models": lambda s: s.change(
        "site_settings.py", '"bare", "empty"', '"empty", "bare"'
    ),
    "a lazy setting": lambda s: s.change("site_settings.py", "no such page", "home"),
    "a setting": lambda s: s.change("site_settings.py", "SHELVES = 3", "SHELVES = 4"),
    "one of a set": lambda s: s.change("site_settings.py", '"five"', '"six"'),
    "password hashers": lambda s: s.setting(
        "PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']\n"
    ),
    "the time zone": lambda s: s.setting("TIME_ZONE = 'Asia/Tokyo'\n"),
    "MIGRATION_MODULES": lambda s: s.setting("MIGRATION_MODULES = {'shelf': None}\n"),
    "TEST options": lambda s: s.setting("DATABASES['default']['TEST'] = {'MIGRATE': False}\n"),
    "OPTIONS": lambda s: s.setting("DATABASES['default']['OPTIONS'] = {'timeout': 7}\n"),
    "the user": lambda s: s.setting("DATABASES['default']['USER'] = 'somebody'\n"),
    "a cache in a table": lambda s: s.setting(
        "CACHES = {'default': {'BACKEND': 'django.core.cache.backends.db.DatabaseCache',"
        " 'LOCATION': 'cached'}}\n"
    ),
}


@pytest.mark.parametrize("what", _SAME)
def test_stays_the_same_after_a_change_of(
    what: str, site: Site, original: tuple[Site, str]
) -> None:
    # When
    _SAME[what](site)
    # Then
    assert site.hash() == original[1]


@pytest.mark.parametrize("what", _ANOTHER)
def test_is_another_after_a_change_of(what: str, site: Site, original: tuple[Site, str]) -> None:
    # When
    _ANOTHER[what](site)
    # Then
    assert site.hash() != original[1]


def test_is_the_same_in_every_process(original: tuple[Site, str]) -> None:
    site, first = original
    # When: other hash seeds, other temporary and home folders
    hashes = {
        site.hash(
            variables={
                "PYTHONHASHSEED": str(seed),
                "TMPDIR": str(_folder(site.root.parent / f"tmp{seed}")),
                "HOME": f"/home/{seed}",
            }
        )
        for seed in range(3)
    }
    # Then
    assert hashes == {first}
    assert len(first) == 64


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def test_files_that_a_migration_reads_count_when_they_are_named(site: Site) -> None:
    # Given
    named = ("data/*.csv",)
    before = site.hash(depends=named)
    # When
    site.change("data/rows.csv", "a", "c")
    # Then
    assert site.hash(depends=named) != before


def test_the_version_of_a_package_counts_unless_it_is_a_tool(site: Site, tmp_path: Path) -> None:
    # Given
    library = tmp_path / "library"
    (library / "tasty-1.0.dist-info").mkdir(parents=True)
    (library / "wheel-1.0.dist-info").mkdir()
    variables = {"PYTHONPATH": str(library)}
    before = site.hash(variables=variables)
    # When / Then
    (library / "wheel-1.0.dist-info").rename(library / "wheel-2.0.dist-info")
    assert site.hash(variables=variables) == before
    (library / "tasty-1.0.dist-info").rename(library / "tasty-2.0.dist-info")
    assert site.hash(variables=variables) != before


def test_a_selection_without_a_models_test_is_another(original: tuple[Site, str]) -> None:
    # Given: a test module that defines a model is loaded with some labels and not with others
    site, everything = original
    # When / Then
    assert site.hash("test_it") != everything


# -- imports -------------------------------------------------------------------------

#: Real code of every style.
_SOURCES = sorted(
    [*Path(django.__file__).parent.rglob("*.py"), *Path(sysconfig.get_path("stdlib")).glob("*.py")]
)


def test_every_import_that_the_syntax_tree_has_is_found() -> None:
    assert len(_SOURCES) > 900
    missing = {}
    for path in _SOURCES:
        source = path.read_text(encoding="utf-8", errors="replace")
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue  # a template of a module
        # When
        lost = _of_tree(tree, "here.there") - imports(source, "here.there")
        if lost:
            missing[path.name] = lost
    # Then
    assert missing == {}


def _of_tree(tree: ast.AST, package: str) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = [*parts[: len(parts) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module:
                found |= {
                    module,
                    *(f"{module}.{alias.name}" for alias in node.names if alias.name != "*"),
                }
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b as c, d", {"a.b", "d"}),
        ("x = 1; import a", {"a"}),
        ("try: import a\nexcept ImportError: from b import c", {"a", "b", "b.c"}),
        ("from .. import a", {"here", "here.a"}),
        ("from .a import *", {"here.there.a"}),
        ("from . a import b", {"here.there.a", "here.there.a.b"}),
        ("from a import \\\n    b, \\\n    c", {"a", "a.b", "a.c"}),
        ("from a import (  # one (of two)\n    b,\n    c as d,  # two)\n)\n", {"a", "a.b", "a.c"}),
    ],
)
def test_imports_are_found_however_they_are_written(source: str, found: set[str]) -> None:
    assert imports(source, "here.there") == found
