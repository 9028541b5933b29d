from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.urls import reverse
from django.utils.text import slugify

from .isbn import is_valid


def validate_isbn(value):
    if not is_valid(value):
        raise ValidationError("%(value)s is not a valid ISBN-13.", params={"value": value})


class Genre(models.Model):
    name = models.CharField(max_length=40, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self):
        return self.name


class Author(models.Model):
    name = models.CharField(max_length=80)

    def __str__(self):
        return self.name


class BookQuerySet(models.QuerySet):
    def in_stock(self):
        return self.filter(stock__gt=0)

    def search(self, text):
        return self.filter(models.Q(title__icontains=text) | models.Q(author__name__icontains=text))


class Book(models.Model):
    title = models.CharField(max_length=120)
    slug = models.SlugField(max_length=140, unique=True, blank=True)
    author = models.ForeignKey(Author, models.PROTECT, related_name="books")
    genre = models.ForeignKey(Genre, models.SET_NULL, null=True, blank=True)
    isbn = models.CharField(max_length=13, unique=True, validators=[validate_isbn])
    price = models.DecimalField(max_digits=7, decimal_places=2, validators=[MinValueValidator(0)])
    stock = models.PositiveIntegerField(default=0)

    objects = BookQuerySet.as_manager()

    class Meta:
        ordering = ["title"]

    def __str__(self):
        return self.title

    def save(self, *args, **kwargs):
        self.slug = self.slug or slugify(self.title)
        super().save(*args, **kwargs)

    def get_absolute_url(self):
        return reverse("book-detail", args=[self.slug])

    @property
    def in_stock(self):
        return self.stock > 0
