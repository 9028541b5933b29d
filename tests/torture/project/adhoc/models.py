"""An app without migrations: its tables, and those of models made in its test module, come from run_syncdb."""

from django.db import models


class Listed(models.Model):
    name = models.CharField(max_length=20)
