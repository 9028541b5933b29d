import pytest
from django.db import connection
from library.models import Book


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """An override of the kind that the documentation of pytest-django shows."""
    with django_db_blocker.unblock():
        Book.objects.create(title="of the session")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings):
    """It has run, wherever the databases come from."""
    connection.settings_dict["CONN_MAX_AGE"] = 7
