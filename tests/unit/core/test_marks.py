"""Claims about `core.marks`: a mark survives its line, and no other line is ever taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.marks import KINDS, PREFIX, Found, Mark

SAFE = st.text("abcXYZ019_.@:/-", max_size=40)
NUMBERS = st.integers(0, 2**40)
TEXTS = ("run", "worker", "owner", "template", "state")
TIMES = ("made", "used", "expires")
MARKS = st.builds(Mark, st.sampled_from(KINDS), **dict.fromkeys(TEXTS, SAFE), **dict.fromkeys(TIMES, NUMBERS))
HOSTILE = st.builds(Mark, st.sampled_from(KINDS), **dict.fromkeys(TEXTS, st.text(max_size=40)), **dict.fromkeys(TIMES, NUMBERS))


@given(MARKS)
def test_a_mark_survives_its_line(mark: Mark) -> None:
    assert Mark.parse(mark.text) == mark


@given(HOSTILE)
def test_hostile_text_can_neither_add_a_field_nor_break_the_line(mark: Mark) -> None:
    # When
    text = mark.text
    parsed = Mark.parse(text)

    # Then
    assert text.isascii()
    assert text.isprintable()
    assert not {"'", '"', "\\", "%", ";"} & set(text)
    assert parsed is not None
    assert (parsed.kind, parsed.made, parsed.used, parsed.expires) == (mark.kind, mark.made, mark.used, mark.expires)
    assert parsed.text == text


@pytest.mark.parametrize("field", TEXTS)
def test_a_value_cannot_pass_for_another_field(field: str) -> None:
    # Given
    mark = Mark("clone").but(**{field: "x expires=1 kind=template"})

    # Then
    parsed = Mark.parse(mark.text)
    assert parsed is not None
    assert (parsed.kind, parsed.expires) == ("clone", 0)


@given(st.text())
def test_a_line_without_our_prefix_is_no_mark(text: str) -> None:
    assert Mark.parse(f"x{text}") is None
    assert Mark.parse(f"{text}{PREFIX}") is None


@pytest.mark.parametrize(
    "text",
    [None, "", PREFIX, f"{PREFIX} ", "dct2 kind=clone", "dct1kind=clone", f"{PREFIX} kind=master", f"{PREFIX} run=a",
     f"{PREFIX} kind=clone made=soon", f" {PREFIX} kind=clone", "reserved for dct1 kind=clone"],
)  # fmt: skip
def test_what_is_not_whole_is_no_mark(text: str | None) -> None:
    assert Mark.parse(text) is None


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_after_the_prefix_is_a_mark_or_none_and_never_an_error(text: str) -> None:
    mark = Mark.parse(f"{PREFIX} {text}")
    assert mark is None or mark.kind in KINDS


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert Mark.parse(f"{PREFIX} kind=idle colour=red run=a") == Mark("idle", run="a")


def test_a_database_is_ours_by_its_mark_or_by_its_birth() -> None:
    assert Found("test_abc", Mark("clone")).ours
    assert Found("test_abc", None, born=True).ours
    assert not Found("test_abc", None).ours
