from django.db import models


class Genre(models.Model):
    name = models.CharField(max_length=50, unique=True)


class Book(models.Model):
    title = models.CharField(max_length=100)
    genre = models.ForeignKey(Genre, models.CASCADE, null=True)
