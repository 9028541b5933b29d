from django.contrib.contenttypes.models import ContentType
from django.db import models


class Genre(models.Model):
    name = models.CharField(max_length=50, unique=True)

    def __str__(self):
        return self.name


class Book(models.Model):
    title = models.CharField(max_length=100)
    genre = models.ForeignKey(Genre, models.CASCADE, related_name="books")

    def __str__(self):
        return self.title


class Remark(models.Model):
    """Points at anything through its content type, so a stale ContentType cache shows as a foreign key error."""

    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.BigIntegerField()
    text = models.TextField()


class Counter(models.Model):
    """Nothing refers to it and no migration fills it: for sequence resets."""

    label = models.CharField(max_length=20)
