"""The terminal as a device: lines that stay, one live line below them, and colours."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import TextIO

#: CI systems whose log view renders ANSI colours, by the variable they set.
_COLOURED_CI = (
    "GITHUB_ACTIONS",
    "GITEA_ACTIONS",
    "GITLAB_CI",
    "CIRCLECI",
    "TRAVIS",
    "BUILDKITE",
    "DRONE",
    "TF_BUILD",
)


def cells(text: str) -> int:
    """Columns that the text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int, mark: str = "…") -> str:
    """The text in at most `width` columns, ending in `mark` where something was cut."""
    if cells(text) <= width:
        return text
    kept, used = [], cells(mark)
    for char in text:
        used += _cells_of(char)
        if used > width:
            break
        kept.append(char)
    return "".join(kept) + mark if cells(mark) <= width else ""


def on(env: Mapping[str, str], name: str) -> bool:
    """Whether a flag-like variable is set, and not to an empty string, 0 or false."""
    return env.get(name, "").lower() not in ("", "0", "false")


def wants_colour(env: Mapping[str, str], *, isatty: bool) -> bool:
    """NO_COLOR > FORCE_COLOR, CLICOLOR_FORCE > CI (by whether its log shows colours) > isatty with
    a TERM that can.
    """
    if env.get("NO_COLOR"):
        return False
    if on(env, "FORCE_COLOR") or on(env, "CLICOLOR_FORCE"):
        return True
    if on(env, "CI"):
        return any(on(env, name) for name in _COLOURED_CI)
    return isatty and env.get("TERM") != "dumb"


class Style:
    """Colours by name; every method returns its text unchanged where colour is off."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def red(self, text: str) -> str:
        return self._paint("31", text)

    def bold_red(self, text: str) -> str:
        return self._paint("1;31", text)

    def green(self, text: str) -> str:
        return self._paint("32", text)

    def bold_green(self, text: str) -> str:
        return self._paint("1;32", text)

    def yellow(self, text: str) -> str:
        return self._paint("33", text)

    def dim(self, text: str) -> str:
        return self._paint("2", text)

    def bold(self, text: str) -> str:
        return self._paint("1", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text else text


class Screen:
    """Two streams that may be one terminal. A live line, if any, stays below everything that is
    printed.
    """

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._live = ""
        self.unicode = _speaks_unicode(out)

    def print(self, text: str) -> None:
        """Lines on stdout, above the live line. One write, so that nothing flickers."""
        _write(self._out, self._erasure() + text + "\n" + self._live)

    def warn(self, text: str) -> None:
        """Lines on stderr. The live line makes way, as both streams may show on one terminal."""
        if self._live:
            _write(self._out, self._erasure())
        _write(self._err, text + "\n")
        if self._live:
            _write(self._out, self._live)

    def paint(self, text: str) -> None:
        """Set the live line. Without automatic wrap: a window that has shrunk since cuts it instead
        of scrolling.

        The cursor rests at its beginning. Where a window that shrinks later breaks the line in two,
        the cursor stays there, and what is erased from it on is all of the line.
        """
        live = f"\r\x1b[?7l{text}\x1b[J\x1b[?7h\r"
        if live != self._live:
            _write(self._out, live)
        self._live = live

    def erase(self) -> None:
        """Take the live line away, for good or until the next `paint`."""
        if self._live:
            _write(self._out, self._erasure())
        self._live = ""

    def encodable(self, text: str) -> str:
        """What the text looks like once it is on stdout (to measure it)."""
        return _encodable(self._out, text)

    def _erasure(self) -> str:
        return "\r\x1b[J" if self._live else ""


def _write(stream: TextIO, text: str) -> None:
    stream.write(_encodable(stream, text))
    stream.flush()


def _encodable(stream: TextIO, text: str) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _speaks_unicode(stream: TextIO) -> bool:
    return _encodable(stream, "━…") == "━…"
