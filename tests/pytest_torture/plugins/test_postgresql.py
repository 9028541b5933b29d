import pytest


@pytest.mark.parametrize("number", range(6))
def test_rows(postgresql, number):
    with postgresql.cursor() as cursor:
        cursor.execute("CREATE TABLE book (title text)")
        cursor.execute("INSERT INTO book VALUES ('one')")
        cursor.execute("SELECT count(*) FROM book")
        assert cursor.fetchone() == (1,)
