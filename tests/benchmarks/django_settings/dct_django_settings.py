"""Settings for Django's own test suite.

The labels as installed apps, as its tests/runtests.py sets it up.

DJANGO_SUITE_LABELS names the labels; SUITE_DB{ENGINE,NAME,HOST,PORT,USER,PASSWORD} the server. It
is copied into Django's tests folder, which is the working directory of every run. Left out:
gis_tests, and runtests.py's refusal of TransactionTestCases without available_apps.
"""

import copy
import os
import tempfile
import warnings
from pathlib import Path

from django.utils.deprecation import RemovedAfterNextVersionWarning, RemovedInNextVersionWarning
from django.utils.log import DEFAULT_LOGGING

for category in (
    RemovedAfterNextVersionWarning,
    RemovedInNextVersionWarning,
    ResourceWarning,
    RuntimeWarning,
):
    warnings.simplefilter("error", category)

TESTS = Path(__file__).resolve().parent
os.environ["RUNTESTS_DIR"] = str(TESTS)
os.environ["RUNNING_DJANGOS_TEST_SUITE"] = "true"

CONTRIB = {
    "deprecation": ["django.contrib.flatpages", "django.contrib.redirects"],
    "flatpages_tests": ["django.contrib.flatpages"],
    "redirects_tests": ["django.contrib.redirects"],
}
MODULES = list(
    dict.fromkeys(label.split(".")[0] for label in os.environ["DJANGO_SUITE_LABELS"].split())
)

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sites",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.staticfiles",
    *(app for module in sorted(MODULES) for app in [*CONTRIB.get(module, []), module]),
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
        "DIRS": [str(TESTS / "templates")],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
#: This skips migrations of the apps that most test models hang on.
MIGRATION_MODULES = {"auth": None, "contenttypes": None, "sessions": None}
LOGGING = copy.deepcopy(DEFAULT_LOGGING)
LOGGING["loggers"]["django"]["level"] = "ERROR"
SILENCED_SYSTEM_CHECKS = ["fields.W342"]
ROOT_URLCONF = "urls"
STATIC_URL = "static/"
STATIC_ROOT = os.path.join(tempfile.gettempdir(), "static")
LANGUAGE_CODE = "en"
SITE_ID = 1
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
DATABASES = {
    alias: {
        "ENGINE": os.environ["SUITE_DBENGINE"],
        "NAME": os.environ["SUITE_DBNAME"] + ("" if alias == "default" else f"_{alias}"),
        **{key: os.environ[f"SUITE_DB{key}"] for key in ("HOST", "PORT", "USER", "PASSWORD")},
    }
    for alias in ("default", "other")
}
