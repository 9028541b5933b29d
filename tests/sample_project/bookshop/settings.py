"""Settings of the bookshop; the database comes from BOOKSHOP_DB and BOOKSHOP_DB_{HOST,PORT,USER,PASSWORD,NAME}."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "not-a-secret"
DEBUG = False
ALLOWED_HOSTS = []
ROOT_URLCONF = "bookshop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
DEFAULT_FROM_EMAIL = "shop@example.org"
VAT_PERCENT = 7

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "catalogue",
    "accounts",
    "orders",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]


def database():
    kind = os.environ.get("BOOKSHOP_DB", "sqlite")
    name = os.environ.get("BOOKSHOP_DB_NAME", "bookshop")
    if kind == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / f"{name}.sqlite3"}
    if kind == "pg":
        return {"ENGINE": "django.db.backends.postgresql", "NAME": name, **server("5432", "postgres")}
    if kind == "mysql":
        # Some servers' default is latin1, which cannot hold every title.
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": name,
            **server("3306", "root"),
            "TEST": {"CHARSET": "utf8mb4"},
        }
    raise ValueError(f"BOOKSHOP_DB must be sqlite, pg or mysql, not {kind!r}")


def server(port, user):
    return {
        "HOST": os.environ.get("BOOKSHOP_DB_HOST", "127.0.0.1"),
        "PORT": os.environ.get("BOOKSHOP_DB_PORT", port),
        "USER": os.environ.get("BOOKSHOP_DB_USER", user),
        "PASSWORD": os.environ.get("BOOKSHOP_DB_PASSWORD", ""),
    }


DATABASES = {"default": database()}
