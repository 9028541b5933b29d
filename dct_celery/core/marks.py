"""The mark that every database of ours carries: who made it, for what, and until when it is of use.

One line of text, kept where the server lets us: a comment on the database (PostgreSQL), a row of the registry database
(MySQL, MariaDB), a file beside it (SQLite). Times are Unix seconds on the clock of the database server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any, Self

#: Beginning of every mark, with the version of its format.
PREFIX = "dct1"
#: building: announced, being made. template, flushed: sealed, to be cloned. clone: an owner works with it.
#: idle: clean, kept for whoever wants a clone of its template.
KINDS = ("building", "template", "flushed", "clone", "idle")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.@:/-]+")
_PAIR = re.compile(r"([a-z]+)=(\S*)")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a database of ours is. Empty text and 0 mean "not said"."""

    kind: str
    run: str = ""
    worker: str = ""
    #: Token of the process that answers for it; see `DatabaseServer.sign_of_life`.
    owner: str = ""
    #: Name of the template that it was cloned from.
    template: str = ""
    made: int = 0
    used: int = 0
    #: Garbage from then on, unless somebody holds it.
    expires: int = 0
    #: `DatabaseServer.state` of a template when it was sealed.
    state: str = ""

    @property
    def text(self) -> str:
        """The line; parses back to an equal mark. Characters that could end a word are replaced by "_"."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return " ".join([PREFIX, *(f"{name}={_UNSAFE.sub('_', str(value))}" for name, value in pairs if value)])

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """The mark in a line, or None for a line that is no mark of ours."""
        words = (text or "").split(" ", 1)
        if words[0] != PREFIX or len(words) < 2:
            return None
        kinds = {f.name: f.type for f in fields(cls)}
        values: dict[str, Any] = {name: value for name, value in _PAIR.findall(words[1]) if name in kinds}
        try:
            values |= {name: int(value) for name, value in values.items() if kinds[name] == "int"}
        except ValueError:
            return None
        return cls(**values) if values.get("kind") in KINDS else None

    def but(self, **changes: Any) -> Mark:
        """The same mark with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Found:
    """A database whose name matches our pattern, as a server lists it."""

    name: str
    #: None: it carries no readable mark.
    mark: Mark | None
    #: Made by us beyond doubt, though the mark is missing: its maker died between the two statements.
    born: bool = False
    #: Size, or 0 where it was not asked for.
    bytes: int = 0

    @property
    def ours(self) -> bool:
        return self.mark is not None or self.born
