"""Claims about `adapters.addresses`.

One server under many names, as this machine's resolver has it.
"""

from __future__ import annotations

import socket

import pytest

from dct_celery.adapters.addresses import resolve


@pytest.mark.parametrize(
    "name", ["localhost", "127.1", "127.0.0.1", "0x7f000001", "::1", socket.gethostname()]
)
def test_each_name_of_this_machine_means_the_same(name: str) -> None:
    assert {"127.0.0.1", "::1"} <= resolve([name])[name]


def test_an_address_of_another_machine_means_only_itself() -> None:
    assert resolve(["192.0.2.7", "::ffff:192.0.2.7"]) == {
        "192.0.2.7": {"192.0.2.7"}, "::ffff:192.0.2.7": {"192.0.2.7"},
    }  # fmt: skip


def test_a_name_that_is_unknown_or_none_has_no_address() -> None:
    names = ["nowhere.invalid", "a..b", "x" * 300, "[::1]", "-"]
    assert resolve(names) == dict.fromkeys(sorted(names), frozenset())
    assert resolve([]) == {}
