"""Doctests through load_tests: of this module, of a string's failures, of a file relative to the working directory.

>>> 1 + 1
2
"""

import doctest
import sys


def slug(text):
    """
    >>> slug("A B")
    'a-b'
    >>> print(slug("x"), end="")
    x
    """
    return text.lower().replace(" ", "-")


def wrong():
    """
    >>> wrong()
    'right'
    """
    return "wrong"


def raising():
    """
    >>> raising()
    """
    raise ValueError("in a doctest")


def of_the_database():
    """
    Doctests come last, after the transactional tests.

    >>> from catalog.models import Genre
    >>> Genre.objects.count()
    0
    """


def load_tests(loader, tests, pattern):
    tests.addTests(doctest.DocTestSuite(sys.modules[__name__]))
    tests.addTests(doctest.DocFileSuite("data/arithmetic.txt", module_relative=False))
    return tests
