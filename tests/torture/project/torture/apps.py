"""System checks: one warning always, one error if TORTURE_CHECK_ERROR is set (then no test may run)."""

import os

from django.apps import AppConfig
from django.core import checks


def torture_checks(app_configs, **kwargs):
    found = [checks.Warning("the torture project warns", id="torture.W001")]
    if os.environ.get("TORTURE_CHECK_ERROR"):
        found.append(checks.Error("the torture project was told to fail its checks", id="torture.E001"))
    return found


class TortureConfig(AppConfig):
    name = "torture"

    def ready(self):
        checks.register(torture_checks)
