"""What text of tests and of other machines goes through before it enters a report or a terminal.

ANSI sequences are stripped, characters that would act instead of being read are spelt out, and the
length is cut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Compiled on first use (`re` caches them): most processes need none, and compiling all takes 5 ms.

# CSI, OSC (ended by BEL or ST) and the escapes of two or three characters. No alternative can run
# over the next ESC, so the search stays linear on text that is full of unfinished sequences.
_ANSI = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[()*+#%][0-9A-Za-z]"
    r"|\x1b[0-Z\\^_c]"
)
# The complement of XML 1.0's Char, plus DEL and C1: legal, but not displayed, and refused by some
# readers.
_ILLEGAL = "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
# C0 except tab and newline, DEL, C1, line separators, marks that change the writing direction of
# what follows, lone surrogates.
_CONTROL = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
# What CI systems take for a command on stdout. GitHub and its relatives: "::" first in a line,
# after any blanks, and "##[" anywhere; Azure: "##vso["; TeamCity: "##teamcity[". GitLab's sections
# need an ESC, which never gets that far.
_COMMAND = r"(?m)(?:^(?P<blanks>[^\S\n]*):(?=:)|#(?=#(?:vso|teamcity|)\[))"


def visible(text: str) -> str:
    """`text` made safe for people to read.

    It cannot move a cursor, change the writing direction or command a CI system. Complete escape
    sequences (colours) are removed; other control characters are spelt out, as is the first
    character of a CI command.
    """
    plain = text
    if not text.isascii() or not text.isprintable():
        plain = re.sub(_CONTROL, _spell, strip_ansi(text.replace("\r\n", "\n")))
    return re.sub(_COMMAND, _disarm, plain) if "::" in plain or "##" in plain else plain


def one_line(text: str) -> str:
    """`visible` text in one line, newlines spelt out."""
    return visible(text.strip("\r\n")).strip("\n").replace("\n", "\\n").replace("\t", " ")


def plural(count: int, noun: str) -> str:
    """`1 test`, `1,204 tests`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def first_of(names: Sequence[str], limit: int = 4) -> str:
    """`a, b`; of many `a, b, c, d and 3 more`."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more}"


def strip_ansi(text: str) -> str:
    """`text` without terminal control sequences.

    An unfinished one stays, for `xml_safe` to show.
    """
    if "\x1b" not in text and "\x9b" not in text:
        return text
    return re.sub(_ANSI, "", text)


def xml_safe(text: str) -> str:
    """`text` with every character that XML 1.0 cannot carry written as `#xNN`.

    DEL, C1 and lone surrogates are written in that form, too.
    """
    # Printable text has no C0, DEL, C1, surrogates or non-characters: the common case, at a tenth
    # of the cost.
    return text if text.isprintable() else re.sub(_ILLEGAL, _escape, text)


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` characters: head and tail around a marker.

    The marker says how many are missing. If not even the marker fits, the head alone.
    """
    if len(text) <= limit:
        return text
    # The marker's length depends on the number in it; the number for the whole text is the longest.
    room = limit - len(_marker(len(text)))
    if room <= 0:
        return text[: max(limit, 0)]
    head, tail = room - room // 2, room // 2
    return text[:head] + _marker(len(text) - room) + text[len(text) - tail :]


def _spell(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _disarm(match: re.Match[str]) -> str:
    return "\\x23" if match[0] == "#" else f"{match['blanks']}\\x3a"


def _marker(missing: int) -> str:
    return f" [... {missing} characters cut ...] "


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"#x{code:02X}" if code <= 0xFF else f"#x{code:04X}"
