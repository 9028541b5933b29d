"""Claims about `testproc.django.migrate_signals`: whose receivers are the project's own."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.management import create_permissions
from django.db.models.signals import post_migrate, pre_migrate
from django.dispatch import Signal

from dct_celery.testproc.django.migrate_signals import forget_types, own_receivers, receivers_of


class Shop:
    def prices(self, **_: object) -> None: ...

    def __call__(self, **_: object) -> None: ...


def fill(**_: object) -> None: ...


@pytest.fixture
def connect() -> Iterator[Any]:
    """Connects a receiver until the end of the test."""
    connected: list[tuple[Signal, Any, object]] = []

    def do(signal: Signal, receiver: Any, sender: object = None) -> None:
        signal.connect(receiver, sender=sender, weak=False)
        connected.append((signal, receiver, sender))

    yield do
    for signal, receiver, sender in connected:
        signal.disconnect(receiver, sender=sender)


def test_only_receivers_outside_django_count(connect: Any) -> None:
    # Given
    connect(post_migrate, create_permissions)
    assert own_receivers() == []
    # When
    connect(pre_migrate, fill, sender="an app")
    connect(post_migrate, fill)
    connect(post_migrate, functools.partial(fill, verbosity=1))
    connect(post_migrate, Shop())
    connect(post_migrate, Shop().prices)
    # Then each is named once
    assert own_receivers() == [f"{__name__}.{name}" for name in ("Shop", "Shop.prices", "fill")]


def test_a_receiver_that_is_gone_is_none() -> None:
    # Given
    signal, shop = Signal(), Shop()
    signal.connect(shop.prices)
    signal.connect(fill, sender="an app")
    # When
    before, of_all = list(receivers_of(signal)), list(receivers_of(signal, every=False))
    del shop, before[0], of_all[0]
    # Then
    assert list(receivers_of(signal)) == before == [fill]
    assert list(receivers_of(signal, every=False)) == of_all == []


def test_without_postgresqls_types_there_is_nothing_to_forget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.modules", {})
    forget_types()
