"""Django in the process of a test: settings and connections, only while a block lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.utils.functional import empty


@contextlib.contextmanager
def databases(*, test_environment: bool = False, **aliases: dict[str, Any]) -> Iterator[None]:
    """DATABASES of these aliases; with `test_environment` as inside of Django's own test runner."""
    from django.test import utils

    handler: Any = connections
    lazy: Any = settings
    assert not settings.configured
    settings.configure(DATABASES=aliases, SECRET_KEY="not a secret")
    apps.ready = True  # or Django warns of each query
    if test_environment:
        utils.setup_test_environment(debug=False)
    try:
        yield
    finally:
        if test_environment:
            utils.teardown_test_environment()
        handler.close_all()
        for alias in list(handler):
            with contextlib.suppress(AttributeError):
                del handler[alias]
        handler.__dict__.pop("settings", None)
        handler._settings = None
        apps.ready = False
        lazy._wrapped = empty  # forgets its cached values, too


def sqlite(name: object, **more: Any) -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(name), **more}
