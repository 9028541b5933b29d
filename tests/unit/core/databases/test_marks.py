"""Claims about `core.databases.marks`: a mark survives its line, and no other line is a mark."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.databases.marks import KINDS, PREFIX, Found, Mark, why_void

NAME = "test_abc"
BEGIN = f"{PREFIX} name={NAME}"
SAFE = st.text("abcXYZ019_.@:/-", max_size=40)
NUMBERS = st.integers(0, 2**40)
TEXTS = ("run", "worker", "owner", "template", "state")
TIMES = ("made", "used", "expires")
MARKS = st.builds(
    Mark, st.sampled_from(KINDS), **dict.fromkeys(TEXTS, SAFE), **dict.fromkeys(TIMES, NUMBERS)
)
HOSTILE = st.builds(
    Mark,
    st.sampled_from(KINDS),
    **dict.fromkeys(TEXTS, st.text(max_size=40)),
    **dict.fromkeys(TIMES, NUMBERS),
)


@given(MARKS)
def test_a_mark_survives_its_line(mark: Mark) -> None:
    assert Mark.parse(mark.line(NAME), NAME) == mark


@given(MARKS, st.text("abc_0", max_size=9))
def test_of_a_database_that_was_renamed_it_says_nothing(mark: Mark, tail: str) -> None:
    # Given
    renamed = f"test_kept_{tail}"

    # Then
    assert Mark.parse(mark.line(NAME), renamed) is None
    assert (
        why_void(mark.line(NAME), renamed)
        == "carries the mark of test_abc: it was renamed, so it is kept"
    )


@given(HOSTILE)
def test_hostile_text_can_neither_add_a_field_nor_break_the_line(mark: Mark) -> None:
    # When
    text = mark.line(NAME)
    parsed = Mark.parse(text, NAME)

    # Then
    assert text.isascii()
    assert text.isprintable()
    assert not {"'", '"', "\\", "%", ";"} & set(text)
    assert parsed is not None
    assert (parsed.kind, parsed.made, parsed.used, parsed.expires) == (
        mark.kind,
        mark.made,
        mark.used,
        mark.expires,
    )
    assert parsed.line(NAME) == text


@pytest.mark.parametrize("field", TEXTS)
def test_a_value_cannot_pass_for_another_field(field: str) -> None:
    # Given
    mark = Mark("clone").but(**{field: "x expires=1 kind=template"})

    # Then
    parsed = Mark.parse(mark.line(NAME), NAME)
    assert parsed is not None
    assert (parsed.kind, parsed.expires) == ("clone", 0)


@given(st.text())
def test_a_line_without_our_prefix_is_no_mark(text: str) -> None:
    assert Mark.parse(f"x{text}", NAME) is None
    assert Mark.parse(f"{text}{PREFIX}", NAME) is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        PREFIX,
        f"{PREFIX} ",
        "dct1 kind=clone",
        "dct3 name=test_abc kind=clone",
        "dct2name=test_abc kind=clone",
        f"{BEGIN} kind=master",
        f"{BEGIN} run=a",
        f"{BEGIN} kind=clone made=soon",
        f" {BEGIN} kind=clone",
        f"reserved for {BEGIN} kind=clone",
        f"{PREFIX} kind=clone",
        f"{PREFIX} kind=clone name=test_abc",
    ],
)
def test_what_is_not_whole_is_no_mark(text: str | None) -> None:
    assert Mark.parse(text, NAME) is None


@pytest.mark.parametrize(
    "more",
    [": do not drop!", " ", "\n", " please keep this one", " colour=red", " made=007",
     " made=1 made=2", " run=", " run=a,b", " worker=w run=r", "s"],
)  # fmt: skip
def test_a_comment_that_only_begins_like_a_mark_is_none(more: str) -> None:
    assert Mark.parse(f"{BEGIN} kind=clone", NAME) == Mark("clone")
    assert Mark.parse(f"{BEGIN} kind=clone{more}", NAME) is None
    assert why_void(f"{BEGIN} kind=clone{more}", NAME) == "carries a mark that cannot be read"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "dct1 kind=clone run=a",
            "carries the mark of an earlier version, which names no database; drop it by hand if"
            " it is no longer needed",
        ),
        ("dct1 is great", ""),
        ("production", ""),
        (None, ""),
    ],
)
def test_a_mark_of_an_earlier_version_is_no_mark_but_is_known_as_one(
    line: str | None, reason: str
) -> None:
    assert Mark.parse(line, NAME) is None
    assert why_void(line, NAME) == reason


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_after_the_prefix_is_a_mark_or_none_and_never_an_error(text: str) -> None:
    mark = Mark.parse(f"{PREFIX} {text}", NAME)
    assert mark is None or mark.kind in KINDS


def test_a_database_is_ours_by_its_mark_or_by_its_birth() -> None:
    assert Found("test_abc", Mark("clone")).ours
    assert Found("test_abc", None, born=True).ours
    assert not Found("test_abc", None).ours
