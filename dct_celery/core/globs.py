"""Globs over the paths of a tree, as in .gitignore: what `include` and `exclude` mean.

    *.mo             every file or folder of that name, at any depth
    /build           only at the root; so does any pattern with a slash inside: docs/conf.py
    media/           the folder of that name with everything in it
    app/**/data      "**" is any number of folders, even none;
                     "*", "?" and "[a-z]" never match a slash

A pattern that matches a folder matches everything below it. A backslash escapes the character after
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What a pattern must look like, for the table of options.
PATTERN = r"(?![!#])(?!(?s:.*/)?\.\.(?:/|\Z))(?!/*\Z)[^\0\n]+"
RULE = 'globs below the root of the code, such as *.mo or media/**, without "!" and ".."'
_WILD = re.compile(r"[*?\[\\]")


def escaped(path: str) -> str:
    """A pattern that means this file or folder alone; `path`: from the root."""
    return "/" + re.sub(r"([*?\[\\])", r"\\\1", path)


class Globs:
    """Patterns, any of which may match."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._compiled = [(pattern, re.compile(_expression(pattern))) for pattern in self.patterns]

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def match(self, path: str) -> bool:
        """Whether this file (POSIX path from the root), or a folder that contains it, is meant."""
        return any(expression.fullmatch(path) for _, expression in self._compiled)

    def unused(self, paths: Iterable[str]) -> list[str]:
        """The patterns that match none of the paths."""
        left = dict(self._compiled)
        for path in paths:
            matching = [pattern for pattern, regex in left.items() if regex.fullmatch(path)]
            for pattern in matching:
                del left[pattern]
        return list(left)

    def bases(self) -> list[str]:
        """The folders that have all matches in them, "" for the root; none lies in another."""
        found = sorted({_literal(pattern) for pattern in self.patterns})
        return [
            base
            for base in found
            if not any(base != other and f"{base}/".startswith(_below(other)) for other in found)
        ]

    def names(self, folder: str) -> bool:
        """Whether a pattern spells out this folder, or one below it, without a wildcard."""
        return any(
            literal == folder or literal.startswith(f"{folder}/")
            for literal in map(_literal, self.patterns)
        )


def _below(folder: str) -> str:
    return f"{folder}/" if folder else ""


def _literal(pattern: str) -> str:
    """The folders that a pattern begins with, up to the first wildcard.

    Empty for a pattern that is not bound to the root.
    """
    if "/" not in pattern.rstrip("/"):
        return ""
    parts = pattern.strip("/").split("/")
    wild = next((number for number, part in enumerate(parts) if _WILD.search(part)), len(parts))
    return "/".join(parts[:wild])


def _expression(pattern: str) -> str:
    """A regular expression for whole paths of files."""
    folder = pattern.endswith("/")
    bound = "/" in pattern.rstrip("/")
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    text = "" if bound else r"(?:[^/]+/)*"
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            text += r".+" if last else r"(?:[^/]+/)*"
        else:
            text += _part(part) + ("" if last else "/")
    return f"(?s:{text}{'/.+' if folder else '(?:/.+)?'})"


def _part(part: str) -> str:
    """One name between slashes."""
    text, position = "", 0
    while position < len(part):
        sign = part[position]
        position += 1
        if sign == "*":
            text += "[^/]*"
        elif sign == "?":
            text += "[^/]"
        elif sign == "[" and (end := _end_of_set(part, position)):
            text += _set(part[position:end])
            position = end + 1
        elif sign == "\\" and position < len(part):
            text += re.escape(part[position])
            position += 1
        else:
            text += re.escape(sign)
    return re.sub(r"(?:\[\^/\]\*)+", "[^/]*", text)


def _end_of_set(part: str, start: int) -> int:
    """Position of the "]" that ends the set before `start`; 0 if there is none.

    A "]" that comes first is a member of the set.
    """
    first = start + 1 if part[start : start + 1] in ("!", "^") else start
    return max(part.find("]", first + 1), 0)


def _set(members: str) -> str:
    """A set as `re` spells it; a range with its ends swapped matches nothing."""
    negated = members[0] in ("!", "^")
    body = re.sub(r"([\\\[\]^&~|])", r"\\\1", members[1:] if negated else members)
    body = body.replace("--", "-\\-")  # `re` keeps it for set differences
    expression = f"(?!/)[{'^' if negated else ''}{body}]"
    try:
        re.compile(expression)
    except re.error:
        return r"(?!/)." if negated else r"(?!)"
    return expression
