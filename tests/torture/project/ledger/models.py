from django.db import models


class Line(models.Model):
    """Lives on the `other` database."""

    text = models.CharField(max_length=50)
