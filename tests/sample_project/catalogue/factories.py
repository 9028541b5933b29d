"""Test data: books and authors with sensible defaults."""

from itertools import count

from . import isbn
from .models import Author, Book

_numbers = count(1)


def make_author(name="Ada Byron"):
    return Author.objects.get_or_create(name=name)[0]


def make_book(title="The Analytical Engine", **fields):
    fields.setdefault("author", make_author())
    fields.setdefault("isbn", isbn.make(next(_numbers)))
    fields.setdefault("price", "10.00")
    fields.setdefault("stock", 5)
    book = Book.objects.create(title=title, **fields)
    book.refresh_from_db()
    return book
