"""What runs remember of the order of tests: kept beside the timings, signed with the pool's key.

A fact decides what runs before a test, and so perhaps its verdict (I11).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dct_celery.core.model import Entry
from dct_celery.core.plan import order_facts
from dct_celery.core.plan.order_facts import OrderFact
from dct_celery.errors import Untrusted
from dct_celery.protocol.door import Door


def opened(stored: Mapping[str, str], door: Door, project: str) -> tuple[dict[str, OrderFact], str]:
    """Class -> fact, of everything that the store keeps for the project.

    The text is a line about facts that were ignored, or empty.
    """
    facts: dict[str, OrderFact] = {}
    ignored, reason = 0, ""
    for name, text in stored.items():
        if not order_facts.is_key(name):
            continue
        try:
            facts[name[2:]] = door.unseal(OrderFact, text, project, name)
        except Untrusted as error:
            ignored, reason = ignored + 1, str(error)
    if not ignored:
        return facts, ""
    said = f"1 fact about the order of tests is ignored; it {reason}"
    if ignored > 1:
        said = f"{ignored:,} facts about the order of tests are ignored; one {reason}"
    return facts, said


def sealed(facts: Mapping[str, OrderFact], door: Door, project: str) -> dict[str, str]:
    """Name in the store -> signed text."""
    return {
        name: door.seal(fact, project, name)
        for cls, fact in facts.items()
        if (name := order_facts.key(cls))
    }


@dataclass(slots=True)
class CodeDigests:
    """Digests of the files that tests are defined in. `root`: the project's tree."""

    root: Path
    _files: dict[str, str] = field(default_factory=dict)

    def of(self, entries: Iterable[Entry]) -> str:
        """One digest for the code of these entries; empty if a file is not at hand."""
        places = {(entry.file or "", entry.code) for entry in entries}
        digests = [self._file(file) if file else code for file, code in sorted(places)]
        if not digests or not all(digests):
            return ""
        return hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest()

    def _file(self, path: str) -> str:
        if path not in self._files:
            try:
                content = (self.root / path).read_bytes()
            except OSError:
                content = b""
            self._files[path] = (
                hashlib.blake2b(content, digest_size=16).hexdigest() if content else ""
            )
        return self._files[path]
