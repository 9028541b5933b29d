import factory
import pytest
from pytest_factoryboy import register


class Book:
    def __init__(self, title):
        self.title = title


@register
class BookFactory(factory.Factory):
    class Meta:
        model = Book

    title = factory.Sequence(lambda number: f"title {number}")


def test_instance(book):
    assert book.title.startswith("title ")


@pytest.mark.parametrize("book__title", ["chosen"])
def test_chosen(book, book__title):
    assert book.title == "chosen"


def test_factory(book_factory):
    assert book_factory(title="x").title == "y"
