"""The database comes from TORTURE_DB (sqlite, sqlitefile, pg, mysql) and TORTURE_DB{HOST,PORT,USER,PASSWORD,NAME}."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "not-a-secret"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ROOT_URLCONF = "shelf.urls"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "static/"
# Their rows have other keys after a flush, so they would collide with those that were serialized.
TEST_NON_SERIALIZED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "library"]


def database(name):
    kind = os.environ.get("TORTURE_DB", "sqlite")
    if kind == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / f"{name}.sqlite3"}
    if kind == "sqlitefile":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": BASE_DIR / f"{name}.sqlite3",
            "TEST": {"NAME": BASE_DIR / f"test_{name}.sqlite3"},
        }
    engine, port, user = {
        "pg": ("postgresql", "5432", "postgres"),
        "mysql": ("mysql", "3306", "root"),
    }[kind]
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": os.environ.get("TORTURE_DBNAME", "torture") + ("" if name == "default" else f"_{name}"),
        "HOST": os.environ.get("TORTURE_DBHOST", "127.0.0.1"),
        "PORT": os.environ.get("TORTURE_DBPORT", port),
        "USER": os.environ.get("TORTURE_DBUSER", user),
        "PASSWORD": os.environ.get("TORTURE_DBPASSWORD", ""),
    }


DATABASES = {"default": database("default"), "other": database("other")}
