"""The planted faults of issue and benchmark: a lost update, a check-then-act race, a deadlock and a
race on a global. Each twin does the same without it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import F

from tests.concurrency_app.models import Account, Booking

Function = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """What is given to assert_concurrent_safety, with the fault and without."""

    name: str
    faulty: Callable[[], Function | Sequence[Function]]
    sound: Callable[[], Function | Sequence[Function]]


def deposit_read_and_written() -> int:
    account = Account.objects.get(pk=1)
    account.balance += 10
    account.save()
    return account.balance


def deposit_locked() -> int:
    with transaction.atomic():
        account = Account.objects.select_for_update().get(pk=1)
        account.balance += 10
        account.save()
        return account.balance


def deposit_in_one_statement() -> None:
    Account.objects.filter(pk=1).update(balance=F("balance") + 10)


def book_if_free() -> bool:
    if Booking.objects.filter(seat=7).exists():
        return False
    Booking.objects.create(seat=7)
    return True


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """A transaction that holds account 1 from its first statement on."""
    with transaction.atomic():
        Account.objects.select_for_update().get(pk=1)
        yield


def book_locked() -> bool:
    with one_at_a_time():
        return book_if_free()


def transfer(source: int, target: int) -> None:
    with transaction.atomic():
        Account.objects.filter(pk=source).update(balance=F("balance") - 1)
        Account.objects.filter(pk=target).update(balance=F("balance") + 1)


def transfer_in_order(source: int, target: int) -> None:
    with transaction.atomic():
        for account, amount in sorted([(source, -1), (target, 1)]):
            Account.objects.filter(pk=account).update(balance=F("balance") + amount)


def transfers_crossed() -> list[Function]:
    """Each locks what the other one wants. SQLite has one lock; there it is two of Python's."""
    if connection.vendor == "sqlite":
        return locks_crossed()

    def to_second() -> None:
        transfer(1, 2)

    def to_first() -> None:
        transfer(2, 1)

    return [to_second, to_first]


def transfers_in_order() -> list[Function]:
    if connection.vendor == "sqlite":
        return locks_in_order()

    def to_second() -> None:
        transfer_in_order(1, 2)

    def to_first() -> None:
        transfer_in_order(2, 1)

    return [to_second, to_first]


def locks_crossed() -> list[Function]:
    """With locks of their own: threads in a deadlock never give them back."""
    left, right = threading.Lock(), threading.Lock()

    def left_first() -> None:
        with left, right:
            pass

    def right_first() -> None:
        with right, left:
            pass

    return [left_first, right_first]


def locks_in_order() -> list[Function]:
    left, right = threading.Lock(), threading.Lock()

    def first() -> None:
        with left, right:
            pass

    def second() -> None:
        with left, right:
            pass

    return [first, second]


served = 0
served_lock = threading.Lock()


def count_on_a_global() -> int:
    global served
    served += 1
    return served


def count_locked() -> int:
    global served
    with served_lock:
        served += 1
        return served


FAULTS = (
    Fault("lost update", lambda: deposit_read_and_written, lambda: deposit_locked),
    Fault("check-then-act", lambda: book_if_free, lambda: book_locked),
    Fault("deadlock", transfers_crossed, transfers_in_order),
    Fault("race on a global", lambda: count_on_a_global, lambda: count_locked),
)
