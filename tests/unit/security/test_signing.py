"""Claims about `core.signing`: only who has the key is believed, and anything else is one clear line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.errors import ConfigError
from dct_celery.security.signing import key_id, sign, verify

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text().filter(lambda name: name != "sig"), VALUES, max_size=5)


@given(BODIES, st.text(st.characters(codec="utf-8")))
def test_what_was_signed_is_read_back(body: dict[str, Any], key: str) -> None:
    assert verify(sign(body, key), key, what="the spec") == body


@given(BODIES)
def test_another_key_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the spec carries another signature"):
        verify(sign(body, "one"), "two", what="the spec")


@given(BODIES, st.text(min_size=1))
def test_a_changed_body_is_refused(body: dict[str, Any], extra: str) -> None:
    # Given
    changed = json.loads(sign({**body, "argv": []}, "key"))
    # When
    changed["argv"] = [extra]
    # Then
    with pytest.raises(ConfigError, match="another signature"):
        verify(json.dumps(changed), "key", what="the spec")


def test_an_old_signature_in_the_body_is_replaced() -> None:
    assert verify(sign({"run": "r", "sig": "old"}, "key"), "key", what="the spec") == {"run": "r"}


@pytest.mark.parametrize("sig", ["", "é", "\udcff", None, 7, [], "0" * 64])
def test_a_signature_of_any_other_shape_is_refused(sig: object) -> None:
    with pytest.raises(ConfigError, match="another signature"):
        verify(json.dumps({"run": "r", "sig": sig}), "key", what="the spec")


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '"sig"', "{}", '["sig"]', "[" * 100_000])
def test_what_is_no_signed_json_is_one_clear_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^the spec is not signed JSON"):
        verify(text, "key", what="the spec")


def test_a_key_id_tells_keys_apart_without_telling_them() -> None:
    # When
    ids = {key_id("one"), key_id("two"), key_id("")}
    # Then
    assert len(ids) == 3
    assert all(len(id_) == 12 and int(id_, 16) >= 0 for id_ in ids)
