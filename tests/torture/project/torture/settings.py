"""Settings of the torture project; the database comes from TORTURE_DB and TORTURE_DB{NAME,HOST,PORT,USER,PASSWORD}."""

import os
import tempfile
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "torture"
DEBUG = False
USE_TZ = True
ROOT_URLCONF = "torture.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "torture.apps.TortureConfig",
    "catalog",
    "ledger",
    "adhoc",
]
STATIC_URL = "static/"
# It sends Content-Length, so a client can close first and leave no TIME_WAIT on the fixed live-server port.
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
# Their rows are made by post_migrate; serialized rows of theirs would clash with those.
TEST_NON_SERIALIZED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "table": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "torture_cache"},
}
DATABASE_ROUTERS = ["torture.router.Router"]

KIND = os.environ.get("TORTURE_DB", "sqlite")
DBNAME = os.environ.get("TORTURE_DBNAME", "torture")


def database(alias, name):
    if KIND == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    if KIND == "sqlitefile":
        # The name of `other` is relative on purpose: it depends on the working directory (A2, 2.10).
        folder = "" if alias == "other" else tempfile.gettempdir()
        test_name = os.path.join(folder, f"test_{name}.sqlite3")
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(tempfile.gettempdir(), f"{name}.sqlite3"),
            "TEST": {"NAME": test_name},
        }
    if KIND == "pg":
        return {"ENGINE": "django.db.backends.postgresql", "NAME": name, **server("5432", "postgres")}
    if KIND == "mysql":
        # Some servers' default is latin1, which cannot hold what the tests write.
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": name,
            **server("3306", "root"),
            "TEST": {"CHARSET": "utf8mb4"},
        }
    raise ValueError(f"TORTURE_DB must be sqlite, sqlitefile, pg or mysql, not {KIND!r}")


def server(port, user):
    return {
        "HOST": os.environ.get("TORTURE_DBHOST", "127.0.0.1"),
        "PORT": os.environ.get("TORTURE_DBPORT", port),
        "USER": os.environ.get("TORTURE_DBUSER", user),
        "PASSWORD": os.environ.get("TORTURE_DBPASSWORD", ""),
    }


DATABASES = {
    "default": database("default", DBNAME),
    "other": database("other", f"{DBNAME}_other"),
    "mirror": {**database("mirror", DBNAME), "TEST": {"MIRROR": "default"}},
}
#: What `NAME` was before any test database was attached.
PRODUCTION_NAMES = {alias: config["NAME"] for alias, config in DATABASES.items()}
