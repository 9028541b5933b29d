import threading

import pytest
from django.db import connection, transaction
from library.models import Book, Genre


@pytest.mark.django_db(transaction=True)
def test_first_sees_the_rows_of_migrations():
    assert Genre.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_second_sees_none():
    assert Genre.objects.count() == 0
    Book.objects.create(title="flushed")


def test_third(transactional_db):
    assert Book.objects.count() == 0
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Book.objects.create(title="rolled back")
        1 / 0
    assert Book.objects.count() == 0


@pytest.mark.django_db(transaction=True, reset_sequences=True)
def test_sequences():
    assert Book.objects.create(title="first").pk == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_serialized():
    assert Genre.objects.filter(name="crime").count() == 1


def test_live_server(live_server):
    from urllib.request import urlopen

    Book.objects.create(title="seen by a thread")
    assert urlopen(f"{live_server.url}/count/").read() == b"1"


@pytest.mark.django_db(transaction=True)
def test_a_thread_sees_rows():
    Book.objects.create(title="x")
    seen = []

    def look():
        seen.append(Book.objects.count())
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [1]
