"""What the middleware does, changed while tests run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from dct_celery import testing
from dct_celery.errors import UsageError
from dct_celery.testing import (
    auto_register_middleware,
    concurrent_test_context,
    get_middleware_config,
    get_test_override,
    reset_test_overrides,
    set_test_override,
)


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    yield
    reset_test_overrides()


def test_what_is_set_holds_until_it_is_reset() -> None:
    # When
    set_test_override("delay_range", (0.2, 0.8))
    set_test_override("probability", 0.5)
    set_test_override("enabled", False)
    # Then
    assert get_test_override("delay_range") == (0.2, 0.8)
    assert get_test_override("probability") == 0.5
    assert get_test_override("enabled") is False
    reset_test_overrides()
    assert get_test_override("delay_range") == (0.1, 0.5)
    assert get_test_override("probability") == 0.3
    assert get_test_override("enabled") is True


def test_a_key_that_is_not_there_has_the_callers_default() -> None:
    assert get_test_override("nonexistent", "default") == "default"
    assert get_test_override("nonexistent") is None


def test_the_context_ends_also_when_its_test_fails() -> None:
    # Given
    set_test_override("probability", 0.9)
    inside = []
    # When
    with contextlib.suppress(ZeroDivisionError), concurrent_test_context(seed=3):
        inside = [get_test_override(key) for key in ("probability", "delay_range", "seed")]
        raise ZeroDivisionError
    assert inside == [0.5, (0.05, 0.2), 3]
    # Then
    assert get_test_override("probability") == 0.9
    assert get_test_override("seed") is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("probabilty", 0.5, "no test override is called 'probabilty': did you mean 'probability'?"),
        ("workers", 4, "there are enabled, delay_range, probability"),
        ("enabled", "false", "give True or False"),
        ("probability", 1.5, "is 1.5: give a number from 0 to 1"),
        ("probability", float("nan"), "give a number from 0 to 1"),
        ("probability", True, "give a number from 0 to 1"),
        ("delay_range", (0.5, 0.1), "0 <= min <= max"),
        ("delay_range", (-1, 0.1), "0 <= min <= max"),
        ("delay_range", 0.1, "give (min, max) in seconds"),
        ("slow_request_seconds", 0, "give seconds above 0"),
        ("slow_request_seconds", float("inf"), "give seconds above 0"),
        ("delay_range", (0, float("inf")), "give (min, max) in seconds"),
        ("seed", [], "is []: give a whole number"),
        ("ignore", "shop.*", "give a list of names"),
    ],
)
def test_nonsense_is_one_line(key: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        set_test_override(key, value)
    # Then
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError), concurrent_test_context(**{key: value}):
        pass


@pytest.mark.parametrize("name", get_middleware_config()["middleware_classes"])
def test_middleware_refuses_to_be_installed_outside_tests(name: str) -> None:
    # Given
    kind = getattr(testing, name.rpartition(".")[2])
    # Then
    with pytest.raises(ImproperlyConfigured) as caught:
        kind(lambda request: None)
    assert str(caught.value).startswith(f"{name} is for tests alone")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", get_middleware_config()["middleware_classes"])
def test_a_bad_setting_is_named_when_middleware_is_installed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr("dct_celery.testing.middleware.in_tests", lambda: True)
    monkeypatch.setattr(
        "django.conf.settings", SimpleNamespace(configured=True, CONCURRENT_TEST_PROBABILITY=7)
    )
    # Then
    with pytest.raises(UsageError, match=r"^setting CONCURRENT_TEST_PROBABILITY is 7: give a numb"):
        getattr(testing, name.rpartition(".")[2])(lambda request: None)


def test_a_key_that_is_no_text_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"^no test override is called None: there are enabled"):
        set_test_override(None, 1)  # type: ignore[arg-type]


def test_middleware_is_not_registered_outside_tests() -> None:
    with pytest.raises(ImproperlyConfigured, match="auto_register_middleware"):
        auto_register_middleware()
