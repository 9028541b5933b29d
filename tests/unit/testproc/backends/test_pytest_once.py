"""Claims about `backends.pytest.once`: what cannot be set up once is one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dct_celery.testproc.backends.pytest.once import OnceFixtures, Refused


def fixture(*argnames: str, scope: str = "session", params: Any = None) -> list[Any]:
    return [SimpleNamespace(argnames=argnames, scope=scope, params=params)]


KNOWN = {
    "short": fixture(scope="module"),
    "several": fixture(params=[1, 2]),
    "stored": fixture("deep"),
    "deep": fixture("django_db_setup", "request"),
    "good": fixture("deeper"),
    "deeper": fixture("good"),
}


def session_of(*names: str) -> Any:
    """A session with one test, which uses all of them."""
    item = SimpleNamespace(_fixtureinfo=SimpleNamespace(name2fixturedefs=KNOWN))
    return SimpleNamespace(
        config=SimpleNamespace(getini=lambda name: list(names)), items=[object(), item]
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("short", "dct_once: the fixture 'short' has the scope module"),
        ("several", "dct_once: the fixture 'several' has parameters"),
        ("stored", "dct_once: the fixture 'stored' uses django_db_setup"),
    ],
)
def test_what_cannot_be_set_up_once_is_one_line(name: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as caught:
        OnceFixtures(session_of("good", name))
    assert "\n" not in str(caught.value)
    assert "take it from there" in str(caught.value)


def test_names_that_no_selected_test_uses_do_not_matter() -> None:
    OnceFixtures(session_of("good", "absent"))
