"""Claims about `security.signing`: only a holder of the key is trusted; all else is one line."""

from __future__ import annotations

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.errors import Untrusted
from dct_celery.security.signing import Keyring, body_of, key_id, signed_by

ONE, TWO, THREE = "k" * 32, "l" * 32, "m" * 32
RING = Keyring((ONE,))
PURPOSE = ("RunSpec", "pool", "run-one", "0123456789abcdef")
BOUND = (1, "c1", 2, 77, "build-a@host", 3)

TEXTS = st.text(st.characters(max_codepoint=127))
KEYS = st.text(min_size=1)
PURPOSES = st.lists(st.text(max_size=10), min_size=1, max_size=4).map(tuple)
VALUES = st.lists(st.text(max_size=10) | st.integers(), max_size=6).map(tuple)


@given(TEXTS, KEYS, PURPOSES, VALUES)
def test_what_was_signed_is_read_back(
    body: str, key: str, purpose: tuple[str, ...], bound: tuple[str | int, ...]
) -> None:
    # When
    text = Keyring((key,)).seal(purpose, body, bound)
    # Then
    assert Keyring((key,)).unseal(purpose, text, bound) == body
    assert (body_of(text), signed_by(text)) == (body, key_id(key))


@given(TEXTS, PURPOSES, PURPOSES)
def test_a_signature_serves_for_its_own_purpose_alone(
    body: str, purpose: tuple[str, ...], other: tuple[str, ...]
) -> None:
    # Given
    text = RING.seal(purpose, body)
    # Then
    if other == purpose:
        assert RING.unseal(other, text) == body
    else:
        with pytest.raises(Untrusted, match=r"^has a wrong signature$"):
            RING.unseal(other, text)


@pytest.mark.parametrize(
    "other",
    [
        PURPOSE[:-1], (*PURPOSE, ""), ("RunSpec", "pool", "run-one0123456789abcdef"),
        ("RunSpecpool", *PURPOSE[2:]), ("RunSpec", "pool\",\"run-one", *PURPOSE[3:]),
        ("CancelOrder", *PURPOSE[1:]), ("RunSpec", "other", *PURPOSE[2:]),
        ("RunSpec", "pool", "run-two", PURPOSE[3]), ("RunSpec", "pool", "run-one", "f" * 16), (),
    ],
)  # fmt: skip
def test_kind_pool_run_and_time_are_parts_of_the_purpose(other: tuple[str, ...]) -> None:
    with pytest.raises(Untrusted, match=r"^has a wrong signature$"):
        RING.unseal(other, RING.seal(PURPOSE, "{}"))


@given(VALUES, VALUES)
def test_a_signature_serves_for_what_it_was_bound_to_alone(
    bound: tuple[str | int, ...], other: tuple[str | int, ...]
) -> None:
    # Given
    text = RING.seal(PURPOSE, "{}", bound)
    # Then
    if other == bound:
        assert RING.unseal(PURPOSE, text, other) == "{}"
    else:
        with pytest.raises(Untrusted, match=r"^has a wrong signature$"):
            RING.unseal(PURPOSE, text, other)


def test_values_are_told_apart_by_their_kind_and_their_borders() -> None:
    # Given
    text = RING.seal(PURPOSE, "[]", (1, "c1"))
    # Then
    for other in [("1", "c1"), (1, "c", "1"), (1, "c1", ""), ("c1", 1), (1,), (), ('1, "c1"',)]:
        with pytest.raises(Untrusted):
            RING.unseal(PURPOSE, text, other)


def test_what_is_bound_does_not_run_into_the_body() -> None:
    # Given
    text = RING.seal(PURPOSE, "2]\n{}", (1,))
    # Then
    with pytest.raises(Untrusted):
        RING.unseal(PURPOSE, text.replace("2]\n{}", "{}"), (1, 2))


@given(st.data(), TEXTS)
def test_a_text_of_which_one_character_was_changed_is_never_accepted(
    data: st.DataObject, body: str
) -> None:
    # Given
    text = RING.seal(PURPOSE, body, BOUND)
    at = data.draw(st.integers(0, len(text) - 1))
    char = data.draw(st.characters().filter(lambda one: one != text[at]))
    # Then
    with pytest.raises(Untrusted):
        RING.unseal(PURPOSE, text[:at] + char + text[at + 1 :], BOUND)


def test_every_character_is_proven() -> None:
    # Given
    text = RING.seal(PURPOSE, '{"index":0}', BOUND)
    # Then
    for at in range(len(text)):
        for char in {chr(ord(text[at]) ^ bit) for bit in (1, 2, 4, 8, 16, 32)} | {
            "é",
            "\udcff",
            "\0",
            ".",
        } - {text[at]}:
            for changed in (
                text[:at] + char + text[at + 1 :],
                text[:at] + char + text[at:],
                text[:at] + text[at + 1 :],
            ):
                if changed != text:
                    with pytest.raises(Untrusted):
                        RING.unseal(PURPOSE, changed, BOUND)


@given(st.data(), TEXTS)
def test_a_text_that_was_cut_or_lengthened_is_never_accepted(
    data: st.DataObject, body: str
) -> None:
    # Given
    text = RING.seal(PURPOSE, body, BOUND)
    # Then
    for changed in (
        text[: data.draw(st.integers(0, len(text) - 1))],
        text + data.draw(st.text(min_size=1)),
    ):
        with pytest.raises(Untrusted):
            RING.unseal(PURPOSE, changed, BOUND)


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_what_is_not_signed_is_one_clear_line(text: str) -> None:
    # When
    for unsigned in (text, f"dct4.{text}", f"dct4.{key_id(ONE)}.{text}"):
        with pytest.raises(Untrusted) as caught:
            RING.unseal(PURPOSE, unsigned)
        # Then: it says nothing of the text
        assert str(caught.value) in {
            "is not signed",
            "is signed with another key",
            "has a wrong signature",
        }
    assert len(signed_by(text)) <= 12


@given(TEXTS, KEYS, KEYS)
def test_another_key_is_named_as_that(body: str, key: str, other: str) -> None:
    if key == other:
        return
    with pytest.raises(Untrusted, match=r"^is signed with another key$"):
        Keyring((other,)).unseal(PURPOSE, Keyring((key,)).seal(PURPOSE, body))


def test_a_signature_under_the_id_of_our_key_made_with_another_one_is_wrong() -> None:
    # Given
    text = Keyring((TWO,)).seal(PURPOSE, "{}").replace(key_id(TWO), key_id(ONE))
    # Then
    with pytest.raises(Untrusted, match=r"^has a wrong signature$"):
        RING.unseal(PURPOSE, text)


# -- several keys ----------------------------------------------------------------------


def test_the_first_key_signs_and_all_are_accepted() -> None:
    # Given
    both = Keyring((ONE, TWO))
    # Then
    assert signed_by(both.seal(PURPOSE, "{}")) == key_id(ONE)
    for key in (ONE, TWO):
        assert both.unseal(PURPOSE, Keyring((key,)).seal(PURPOSE, "{}")) == "{}"
    with pytest.raises(Untrusted, match="another key"):
        both.unseal(PURPOSE, Keyring((THREE,)).seal(PURPOSE, "{}"))


def test_a_run_keeps_to_the_key_that_it_was_begun_with() -> None:
    # Given
    both = Keyring((ONE, TWO))
    # When
    older = both.preferring(key_id(TWO))
    # Then
    assert older.keys == (TWO, ONE)
    assert both.preferring(key_id(THREE)) == both.preferring("") == both
    assert Keyring((TWO,)).unseal(PURPOSE, older.seal(PURPOSE, "{}")) == "{}"


def test_each_key_signs_for_itself() -> None:
    # When
    rings = Keyring((ONE, TWO, THREE)).each()
    # Then
    assert [ring.keys[0] for ring in rings] == [ONE, TWO, THREE]
    assert all(set(ring.keys) == {ONE, TWO, THREE} for ring in rings)
    assert len(Keyring().each()) == 1


def test_without_a_key_only_those_without_one_are_trusted() -> None:
    # Given
    keyless = Keyring()
    # Then
    assert not keyless.secure
    assert keyless.ids == (key_id(""),)
    assert keyless.unseal(PURPOSE, Keyring().seal(PURPOSE, "{}")) == "{}"
    with pytest.raises(Untrusted, match="another key"):
        keyless.unseal(PURPOSE, RING.seal(PURPOSE, "{}"))
    with pytest.raises(Untrusted, match="another key"):
        RING.unseal(PURPOSE, keyless.seal(PURPOSE, "{}"))


@given(st.text())
def test_a_key_id_tells_keys_apart_without_revealing_them(key: str) -> None:
    # When
    id_ = key_id(key)
    # Then
    assert len(id_) == 12
    assert int(id_, 16) >= 0
    assert id_ != key_id(key + "x")


@pytest.mark.parametrize("key", ["\udcff" * 32, "é" * 32, "\0" * 32])
def test_a_key_of_any_characters_serves(key: str) -> None:
    assert Keyring((key,)).unseal(PURPOSE, Keyring((key,)).seal(PURPOSE, "{}")) == "{}"


def test_the_form_of_a_signature_is_that_of_the_protocol() -> None:
    # Given: HKDF and HMAC as the documentation has them, written once more
    extracted = hmac.digest(b"dct_celery/4", ONE.encode(), "sha256")
    derived = hmac.digest(extracted, b'["kind", "pool"]\x01', "sha256")
    mac = (
        base64.urlsafe_b64encode(hmac.digest(derived, b'[1, "c"]\n{}', "sha256"))
        .decode()
        .rstrip("=")
    )
    # Then: a worker of another build says the same
    assert RING.seal(("kind", "pool"), "{}", (1, "c")) == f"dct4.7946299b7c86.{mac}.{{}}"
