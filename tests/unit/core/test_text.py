"""Text of tests on its way into a report."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dct_celery.core.text import cut, strip_ansi, xml_safe

#: Every code point, lone surrogates too, with the troublesome ones often.
ANY_TEXT = st.text(st.characters() | st.sampled_from("\x00\x07\x1b[]\\;mK\r\n\t\x7f\x85\x9b\ud800\udfff\ufffe\uffff"))


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
    # Given half a million openings; a quadratic search would take minutes and end in the suite's time limit
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
def test_a_cut_text_never_exceeds_its_limit_and_a_short_one_is_left_alone(text: str, limit: int) -> None:
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
