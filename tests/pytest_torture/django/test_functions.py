import pytest
from django.db import connection, connections
from library.models import Book, Genre


@pytest.fixture
def book(db):
    return Book.objects.create(title="one")


def test_a_fixture_reaches_the_database(book):
    assert Book.objects.filter(title="one").count() == 1


def test_rows_of_another_test_are_gone(db):
    assert not Book.objects.filter(title="one").exists()


def test_the_session_has_made_its_row(db):
    assert Book.objects.filter(title="of the session").count() == 1


def test_a_migration_has_made_rows(db):
    assert set(Genre.objects.values_list("name", flat=True)) == {"crime", "poetry"}


def test_settings_were_changed_before(db):
    assert connection.settings_dict["CONN_MAX_AGE"] == 7


def test_the_database_is_blocked_without_a_mark():
    Book.objects.count()


@pytest.mark.django_db(databases=["other"])
def test_only_the_other_database():
    assert Genre.objects.using("other").count() == 2
    Genre.objects.using("default").count()


@pytest.mark.django_db(databases=["default", "other"])
def test_both_databases():
    Book.objects.using("other").create(title="there")
    assert not Book.objects.filter(title="there").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("number", range(5))
def test_many(number):
    Book.objects.create(title=str(number))
    assert Book.objects.count() == 2


@pytest.mark.django_db
def test_the_client(client):
    assert client.get("/count/").content == b"1"


def test_mail(mailoutbox, settings):
    settings.DEFAULT_FROM_EMAIL = "a@example.org"
    from django.core.mail import send_mail

    send_mail("subject", "body", None, ["b@example.org"])
    assert mailoutbox[0].from_email == "a@example.org"


def test_the_blocker(django_db_blocker, django_db_setup):
    with django_db_blocker.unblock():
        Book.objects.create(title="left behind").delete()


def test_a_query_count(db, django_assert_num_queries):
    with django_assert_num_queries(2):
        Book.objects.count()


def test_names(db):
    assert connections["default"].settings_dict["NAME"] != connections["other"].settings_dict["NAME"] or connection.vendor == "sqlite"
