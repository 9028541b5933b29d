"""What a test's text goes through before it enters a report: ANSI stripped, illegal characters shown, length cut."""

from __future__ import annotations

import re

# CSI, OSC (ended by BEL or ST) and the escapes of two or three characters. No alternative can run over the next ESC, so
# that the search stays linear on a text of nothing but unfinished sequences.
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[()*+#%][0-9A-Za-z]"
    r"|\x1b[0-Z\\^_c]"
)
# The complement of XML 1.0's Char, and DEL and C1 on top: legal, but shown by nobody and refused by some readers.
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def strip_ansi(text: str) -> str:
    """`text` without terminal control sequences; an unfinished one stays, for `xml_safe` to show."""
    if "\x1b" not in text and "\x9b" not in text:
        return text
    return _ANSI.sub("", text)


def xml_safe(text: str) -> str:
    """`text` with every character that XML 1.0 cannot carry (and DEL, C1, lone surrogates) written as `#xNN`."""
    # Printable means none of C0, DEL, C1, surrogates, non-characters: the common case at a tenth of the cost.
    return text if text.isprintable() else _ILLEGAL.sub(_escape, text)


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` characters: its head and tail around a marker that says how many are missing.

    Where not even the marker has room, the bare head.
    """
    if len(text) <= limit:
        return text
    # The marker's own length depends on the number in it; the number for the whole text is never shorter.
    room = limit - len(_marker(len(text)))
    if room <= 0:
        return text[: max(limit, 0)]
    head, tail = room - room // 2, room // 2
    return text[:head] + _marker(len(text) - room) + text[len(text) - tail :]


def _marker(missing: int) -> str:
    return f" [... {missing} characters cut ...] "


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"#x{code:02X}" if code <= 0xFF else f"#x{code:04X}"
