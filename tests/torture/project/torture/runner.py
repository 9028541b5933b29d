"""A house runner as projects have them: its own result class, and rows loaded after the databases are set up."""

import unittest

from django.db import connections
from django.test.runner import DiscoverRunner


class ServiceUnavailable(Exception):
    """An outside service is away: the house rule says that this is a skip."""


class HouseResult(unittest.TextTestResult):
    def addError(self, test, err):
        if issubclass(err[0], ServiceUnavailable):
            self.addSkip(test, f"service unavailable: {err[1]}")
        else:
            super().addError(test, err)


class HouseRunner(DiscoverRunner):
    def get_resultclass(self):
        return super().get_resultclass() or HouseResult

    def setup_databases(self, **kwargs):
        old_config = super().setup_databases(**kwargs)
        if "default" in kwargs.get("aliases", connections):
            from catalog.models import Genre

            Genre.objects.get_or_create(name="house")
        return old_config
