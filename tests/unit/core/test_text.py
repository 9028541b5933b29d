"""Text of tests on its way into a report."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dct_celery.core.text import cut, first_of, one_line, strip_ansi, visible, xml_safe

#: Every code point, lone surrogates too, with the problematic ones often.
ANY_TEXT = st.text(
    st.characters()
    | st.sampled_from("\x00\x07\x1b[]\\;mK\r\n\t\x7f\x85\x9b\ud800\udfff\ufffe\uffff")
)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;5;196;1mred\x1b[m", "red"),
        ("\x9b31mred", "red"),
        ("a\x1b[2K\x1b[1Gb", "ab"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(B\x1b[mtput", "tput"),
        ("\x1b7saved\x1b8", "saved"),
        ("[31m without escape", "[31m without escape"),
    ],
)
def test_terminal_sequences_leave_no_trace(raw: str, plain: str) -> None:
    # When / Then
    assert strip_ansi(raw) == plain


def test_an_unfinished_sequence_is_shown_and_eats_no_text() -> None:
    # Given
    raw = "\x1b]0;never closed\nthe message"

    # When
    shown = xml_safe(strip_ansi(raw))

    # Then
    assert shown == "#x1B]0;never closed\nthe message"


def test_a_long_text_of_unfinished_sequences_is_no_trap() -> None:
    # Given half a million openings; a quadratic search would take minutes and end in the suite's
    # time limit
    raw = "\x1b]\x1b[" * 250_000

    # When
    left = strip_ansi(raw)

    # Then
    assert left == raw


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x00", "#x00"),
        ("\x1b", "#x1B"),
        ("\x7f", "#x7F"),
        ("\x85", "#x85"),
        ("\ud800", "#xD800"),
        ("\ufffe", "#xFFFE"),
        ("a\tb\nc\rd", "a\tb\nc\rd"),
        ("ä 漢 🎉 \U0010ffff", "ä 漢 🎉 \U0010ffff"),
    ],
)
def test_what_xml_cannot_carry_is_written_as_its_number(raw: str, shown: str) -> None:
    # When / Then
    assert xml_safe(raw) == shown


@given(ANY_TEXT)
@settings(database=None, deadline=None)
def test_any_text_makes_a_document_that_parses_and_gives_it_back(raw: str) -> None:
    # Given
    element = ET.Element("a")
    element.text = xml_safe(raw)

    # When
    back = ET.fromstring(ET.tostring(element, encoding="utf-8")).text or ""

    # Then a parser turns every line end into \n, and changes nothing else
    assert back == element.text.replace("\r\n", "\n").replace("\r", "\n")


@given(ANY_TEXT, st.integers(-5, 80))
@settings(database=None, deadline=None)
def test_a_cut_text_never_exceeds_its_limit_and_a_short_one_is_left_alone(
    text: str, limit: int
) -> None:
    # When
    short = cut(text, limit)

    # Then
    assert len(short) <= max(limit, 0)
    assert short == text or len(text) > limit


def test_a_cut_keeps_head_and_tail_and_says_how_much_is_missing() -> None:
    # Given
    text = "HEAD" + "x" * 1000 + "TAIL"

    # When
    short = cut(text, 100)

    # Then
    head, _, rest = short.partition(" [... ")
    missing, _, tail = rest.partition(" characters cut ...] ")
    assert head.startswith("HEAD")
    assert tail.endswith("TAIL")
    assert len(head) + int(missing) + len(tail) == len(text)


class TestVisible:
    @given(
        st.text()
        | st.text(st.sampled_from("\x1b[]0m\r\n\t\x07\x9b:#vso[ \u202e\u2028\u3000"), max_size=30)
    )
    def test_nothing_in_it_acts_on_a_terminal_or_a_ci_system(self, text: str) -> None:
        # When
        shown = visible(text)

        # Then
        assert not re.search(
            r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
            shown,
        )
        assert not any(line.lstrip().startswith("::") for line in shown.split("\n"))
        assert not re.search(r"##(vso|teamcity)?\[", shown)
        assert visible(shown) == shown

    @given(st.text())
    def test_one_line_is_one_line(self, text: str) -> None:
        assert len(one_line(text).splitlines()) <= 1
        assert "\t" not in one_line(text)

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("::error file=a::boom", "\\x3a:error file=a::boom"),
            ("a\n  ::set-output name=x::y", "a\n  \\x3a:set-output name=x::y"),
            ("\r\n::add-mask::x", "\n\\x3a:add-mask::x"),
            ("\x1b[0m::error::", "\\x3a:error::"),
            ("##vso[task.complete]", "\\x23#vso[task.complete]"),
            ("x ##[error]y", "x \\x23#[error]y"),
            ("##teamcity[testFailed]", "\\x23#teamcity[testFailed]"),
            ("\x1b[0Ksection_start:1:name\r\x1b[0Kt", "section_start:1:name\\rt"),
            ("\x1b[31mred\x1b[0m \x07 \x9b \u202e", "red \\x07 \\x9b \\u202e"),
        ],
    )
    def test_it_says_what_was_there(self, text: str, shown: str) -> None:
        assert visible(text) == shown

    @pytest.mark.parametrize(
        "text",
        ["a::b", "std::vector", "# heading\n## more", "[x] ##", "T::test_x", "ünïcode 漢字 😀", ""],
    )
    def test_what_is_harmless_stays_as_it_is(self, text: str) -> None:
        assert visible(text) == text


def test_of_many_names_the_first_are_shown_and_the_rest_counted() -> None:
    assert first_of(["a", "b"]) == "a, b"
    assert first_of(list("abcdef")) == "a, b, c, d and 2 more"
