"""Claims about `backends.pytest.once`: what cannot be set up once is one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from _pytest import fixtures
from _pytest.runner import SetupState

from dct_celery.testproc.backends.pytest.once import OnceFixtures, Refused, set_up_fixture


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


def test_a_fixture_is_set_up_for_an_item_that_pytest_believes_to_be_active(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """pytest 9.1 warns of any other, and pytest 10.1 refuses it."""
    # Given
    state = SetupState()
    active: list[bool] = []

    class Request:
        def __init__(self, item: Any, **_: Any) -> None:
            self._item = item

        def getfixturevalue(self, name: str) -> None:
            active.append(state.is_node_active(self._item))
            raise ValueError(name)

    class Item:
        session = SimpleNamespace(_setupstate=state)

    monkeypatch.setattr(fixtures, "TopRequest", Request)
    item: Any = Item()
    # When
    with pytest.raises(ValueError, match="browser"):
        set_up_fixture(item, "browser")
    # Then
    assert active == [True]
    assert not state.is_node_active(item)
