"""A place for what a framework prints of its own: reports come from the dispatcher."""

from __future__ import annotations


class Nowhere:
    """A text stream that discards everything."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False
