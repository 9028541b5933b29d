"""Claims about `core.redact`: no password of a URL is ever shown, and nothing else is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.redact import redact

SCHEMES = st.sampled_from(["redis", "rediss", "amqp", "amqps", "redis+socket", "unix", "postgres"])
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-.%", max_size=12)
# Any visible text, quoted or not; "://" inside starts a new URL for every reader.
PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=40
).filter(lambda text: "://" not in f"x:{text}@")
PLAIN = st.text().filter(lambda text: "://" not in text)


@given(SCHEMES, PASSWORDS, NAMES, PLAIN, PLAIN)
def test_a_password_without_user_is_never_shown_whatever_it_holds(
    scheme: str, password: str, host: str, before: str, after: str
) -> None:
    # Given
    text = f"{before} {scheme}://:{password}@{host}/0 {after}"

    # When
    shown = redact(text)

    # Then
    assert shown == f"{before} {scheme}://:**@{host}/0 {after}"


@given(SCHEMES, NAMES.filter(bool), PASSWORDS.filter(lambda text: not text[0].isdigit()), NAMES)
def test_a_password_after_a_user_is_never_shown(
    scheme: str, user: str, password: str, host: str
) -> None:
    # When
    shown = redact(f"{scheme}://{user}:{password}@{host}:6379/0")

    # Then
    assert shown == f"{scheme}://{user}:**@{host}:6379/0"


@given(st.text())
def test_redacting_twice_is_redacting_once(text: str) -> None:
    # Given
    once = redact(f"redis://u:{text}@h")

    # Then
    assert redact(once) == once


@given(PLAIN)
def test_text_without_urls_is_unchanged(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "redis://127.0.0.1:6379/0",
        "redis://[::1]:6379/0",
        "http://localhost:8000/static/@angular/core.js",
        "see https://example.org/a?b=c, mail me@example.org",
        "amqp://guest@broker//",
    ],
)
def test_a_url_without_password_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_even_a_password_that_looks_like_a_url_is_not_shown() -> None:
    assert redact("redis://:a://b@h/0") == "redis://:**@h/0"


def test_every_url_of_a_text_is_redacted() -> None:
    # Given
    text = "amqp://a:one@h1//;amqp://b:two@h2// and redis://h/0?db=1&password=three&x=4"

    # Then
    assert redact(text) == "amqp://a:**@h1//;amqp://b:**@h2// and redis://h/0?db=1&password=**&x=4"


def test_a_huge_text_without_blanks_is_no_trap() -> None:
    # Given: what made an earlier pattern quadratic
    text = "redis://a:" * 2_000 + "x" * 100_000

    # Then
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://u:12/34@h:1", "redis://u:**@h:1"),
        ("redis://u:1#b@h", "redis://u:**@h"),
        ("postgres://u:a b c@h/x", "postgres://u:**@h/x"),
        (
            "connecting to redis://h:6379 failed, ask ops@example.org",
            "connecting to redis://h:6379 failed, ask ops@example.org",
        ),
        ("http://h:8000/a@b", "http://h:8000/a@b"),
    ],
)
def test_a_password_that_was_pasted_without_quoting_is_masked_as_a_whole(
    text: str, shown: str
) -> None:
    assert redact(text) == shown
