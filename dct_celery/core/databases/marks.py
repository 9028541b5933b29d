"""The mark that every database of ours carries: who made it, for what, and until when it is useful.

One line of text, kept where the server allows: a comment on the database (PostgreSQL), a row of the
registry database (MySQL, MariaDB), a file beside it (SQLite). Times are Unix seconds on the clock
of the database server.

The line names the database that it was written for. A comment moves with a database that is
renamed, and whoever renames one of ours wants to keep it: the mark is void under another name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any, Self

#: Start of every mark, with the version of its format.
PREFIX = "dct2"
#: The previous format did not name the database, so a renamed one cannot be recognised.
_EARLIER = re.compile(r"dct1 kind=[a-z]+( |\Z)")
#: building: announced, not finished. template, flushed: sealed, to be cloned. clone: in use by its
#: owner. idle: clean, kept for the next slot that needs a clone of its template.
KINDS = ("building", "template", "flushed", "clone", "idle")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.@:/-]+")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a database of ours is. Empty text and 0 mean "not known"."""

    kind: str
    run: str = ""
    worker: str = ""
    #: Token of the process that owns it; see `DatabaseServer.liveness_lock`.
    owner: str = ""
    #: Name of the template that it was cloned from.
    template: str = ""
    made: int = 0
    used: int = 0
    #: Garbage from then on, unless it is in use.
    expires: int = 0
    #: `DatabaseServer.state` of a template when it was sealed.
    state: str = ""

    def line(self, name: str) -> str:
        """The mark as it is written for the database `name`.

        Characters that could end a field are replaced by "_".
        """
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        given = [f"{field}={_UNSAFE.sub('_', str(value))}" for field, value in pairs if value]
        return " ".join([PREFIX, f"name={_UNSAFE.sub('_', name)}", *given])

    @classmethod
    def parse(cls, line: str | None, name: str) -> Self | None:
        """The mark that was written for the database `name`; None for any other line.

        A mark of ours for another database is another line. What is dropped depends on this, so a
        line counts only if we would write exactly the same one.
        """
        types = {f.name: f.type for f in fields(cls)}
        pairs = [word.partition("=")[::2] for word in (line or "").split(" ")[2:]]
        values: dict[str, Any] = {field: value for field, value in pairs if field in types}
        if values.get("kind") not in KINDS:
            return None
        try:
            values |= {
                field: int(value) for field, value in values.items() if types[field] == "int"
            }
        except ValueError:
            return None
        mark = cls(**values)
        return mark if mark.line(name) == line else None

    def but(self, **changes: Any) -> Mark:
        """A copy with some fields changed."""
        return replace(self, **changes)


def why_void(line: str | None, name: str) -> str:
    """Why a line that looks like a mark is void for the database `name`.

    Empty for a line that does not look like a mark.
    """
    text = line or ""
    if _EARLIER.match(text):
        return (
            "carries the mark of an earlier version, which names no database; drop it by hand if"
            " it is no longer needed"
        )
    if not text.startswith(f"{PREFIX} "):
        return ""
    other = text.split(" ")[1].removeprefix("name=")
    if other != name and Mark.parse(text, other) is not None:
        return f"carries the mark of {other}: it was renamed, so it is kept"
    return "carries a mark that cannot be read"


@dataclass(frozen=True, slots=True)
class Found:
    """A database whose name matches our pattern, as a server lists it."""

    name: str
    #: None: it carries no readable mark.
    mark: Mark | None
    #: Certainly made by us although the mark is missing: its maker died between the two statements.
    born: bool = False
    #: Size, or 0 if it was not asked for.
    bytes: int = 0
    #: Why what looks like our mark is void (see `why_void`).
    void: str = ""

    @property
    def ours(self) -> bool:
        return self.mark is not None or self.born
