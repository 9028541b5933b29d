"""How runs differ, and what differs by chance."""

from __future__ import annotations

from dct_celery.testing.databases import Table
from dct_celery.testing.outcomes import Outcome, Volatile, differences

BEFORE = Table(("id", "n", "token"), (0,), ((1, 10, "a"), (2, 20, "b")))


def outcome(*rows: tuple[object, ...], shared: dict[str, str] | None = None) -> Outcome:
    one = Outcome()
    one.add_table("shop", BEFORE, Table(BEFORE.columns, BEFORE.keys, rows))
    one.add_shared({}, {("shop", f".{name}"): text for name, text in (shared or {}).items()})
    return one


def said(
    seen: Outcome, serial: Outcome, *again: Outcome, ignore: tuple[str, ...] = ()
) -> list[str]:
    volatile = Volatile(ignore)
    for other in again:
        volatile.learn(serial, other)
    return list(differences(seen, serial, volatile))


def test_a_row_that_was_there_is_named_by_its_key() -> None:
    # When
    lines = said(outcome((1, 11, "a"), (2, 20, "b")), outcome((1, 12, "a"), (2, 20, "b")))
    # Then
    assert lines == ["shop[1].n is 11; one after the other it is 12"]


def test_a_row_that_is_gone_is_named_so() -> None:
    # When
    lines = said(outcome((2, 20, "b")), outcome((1, 10, "a"), (2, 20, "b")))
    # Then
    assert lines == ["shop[1] is gone; one after the other it is as before"]


def test_new_rows_are_counted_and_come_in_any_order() -> None:
    # Given
    two = outcome(*BEFORE.rows, (3, 1, "x"), (4, 2, "y"))
    # Then
    assert said(outcome(*BEFORE.rows, (4, 2, "y"), (3, 1, "x")), two) == []
    assert said(outcome(*BEFORE.rows, (3, 1, "x")), two) == [
        "1 new rows of shop; one after the other 2"
    ]


def test_keys_and_tokens_that_differ_by_chance_are_left_out() -> None:
    # Given
    serial, again = outcome(*BEFORE.rows, (3, 1, "x")), outcome(*BEFORE.rows, (4, 1, "y"))
    # Then
    assert said(outcome(*BEFORE.rows, (9, 1, "z")), serial) != []
    assert said(outcome(*BEFORE.rows, (9, 1, "z")), serial, again) == []
    assert said(outcome(*BEFORE.rows, (9, 2, "z")), serial, again) == [
        "new rows of shop: n=2; one after the other n=1 instead"
    ]


def test_a_column_that_differs_by_chance_counts_in_other_rows() -> None:
    # Given
    serial, again = outcome((1, 5, "x"), (2, 20, "b")), outcome((1, 5, "y"), (2, 20, "b"))
    # Then
    assert said(outcome((1, 5, "z"), (2, 20, "b")), serial, again) == []
    assert said(outcome((1, 5, "z"), (2, 20, "c")), serial, again) != []


def test_parts_of_a_global_with_keys_by_chance_are_left_out() -> None:
    # Given
    def cache(key: str) -> Outcome:
        one = Outcome()
        one.add_shared({}, {("shop", ".cache", f"['{key}']"): "1"})
        return one

    # Then
    assert said(cache("third"), cache("first"), cache("second")) == []


def test_names_are_ignored_as_the_lines_write_them() -> None:
    # Given
    seen, serial = outcome(*BEFORE.rows, shared={"hits": "1"}), outcome(*BEFORE.rows)
    # Then
    assert said(seen, serial) == ["shop.hits is 1; one after the other it is as before"]
    assert said(seen, serial, ignore=("shop.hits",)) == []
    row = outcome((1, 11, "a"), (2, 20, "b"))
    assert said(row, serial, ignore=("shop.n",)) == said(row, serial, ignore=("shop[[]1].n",)) == []
    assert said(row, serial, ignore=("shop.token",)) != []


def test_rows_without_a_key_are_compared_in_any_order() -> None:
    # Given
    table = Table(("n",), (), ((1,), (2,)))

    def with_rows(*rows: tuple[int]) -> Outcome:
        one = Outcome()
        one.add_table("log", table, Table(("n",), (), rows))
        return one

    # Then
    assert said(with_rows((2,), (1,)), with_rows((1,), (2,))) == []
    assert said(with_rows((2,), (2,)), with_rows((1,), (2,))) != []
