"""What may become a part of a path, and what never does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core import ids

_CHECKS = (ids.is_run_id, ids.is_chunk_id, ids.is_digest, ids.is_template_key, ids.is_worker_name)


@pytest.mark.parametrize("check", _CHECKS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../x",
        "a/b",
        "a\0b",
        "a" * 300,
        "a" * 40 + "\n",
        "run-one\n",
        None,
        7,
        b"run-one",
        "-rf",
    ],
)
def test_what_could_lead_elsewhere_is_no_name(check: object, text: object) -> None:
    assert callable(check)
    assert not check(text)


def test_our_own_names_pass() -> None:
    assert ids.is_run_id("20261128-083244-a1b2c3")
    assert ids.is_chunk_id("c17")
    assert ids.is_digest(ids.digest_of(b""))
    assert ids.is_template_key("0123456789abcdef" * 4)
    assert ids.is_worker_name("build-a@host.example.org")


@given(st.text())
def test_a_text_that_passes_is_one_name_below_a_folder(text: str) -> None:
    for check in _CHECKS:
        if check(text):
            assert text not in (".", "..")
            assert not set(text) & set("/\0\n")
            assert len(text.encode()) <= 200
