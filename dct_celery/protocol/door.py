"""The door: signed texts out, verified and typed messages in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dct_celery.core import codec
from dct_celery.errors import Untrusted
from dct_celery.security.signing import Keyring, body_of

T = TypeVar("T")
#: Maximum length of a signed text; of our messages only a run's head comes near it.
MAX_TEXT = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Door:
    """Seals and unseals for a pool, or for one run in it.

    `context` is part of every signature's purpose.
    """

    keyring: Keyring
    context: tuple[str, ...]

    @classmethod
    def of_pool(cls, keyring: Keyring, pool: str) -> Door:
        return cls(keyring, (pool,))

    def of_run(self, run: str, nonce: str, key: str = "") -> Door:
        """The door of a run.

        `nonce` distinguishes runs that had the same id; `key` is the id of the key that the run was
        begun with.
        """
        return Door(
            self.keyring.preferring(key) if key else self.keyring, (*self.context, run, nonce)
        )

    @property
    def environment_key(self) -> str:
        """For hashes of variables' values, the same in all runs of the pool: who lacks the pool's
        key learns nothing from them.
        """
        return self.keyring.secret(("Environment", self.context[0]))

    def seal(self, message: object, *bound: str | int) -> str:
        """The signed text of a message (a dataclass), bound to these values."""
        return self.seal_text(type(message).__name__, codec.dumps(message), *bound)

    def unseal(self, cls: type[T], text: str, *bound: str | int) -> T:
        """Raises Untrusted."""
        return parse(cls, self.unseal_text(cls.__name__, text, *bound))

    def seal_text(self, kind: str, body: str, *bound: str | int) -> str:
        """The same for a body that is already JSON."""
        return self.keyring.seal((kind, *self.context), body, bound)

    def unseal_text(self, kind: str, text: str, *bound: str | int) -> str:
        if len(text) > MAX_TEXT:
            raise Untrusted(f"is too long: {len(text):,} characters")
        return self.keyring.unseal((kind, *self.context), text, bound)


def peek(cls: type[T], text: str) -> T:
    """The content of a signed text, unverified: shows which run's door it must go through.

    Raises Untrusted.
    """
    if len(text) > MAX_TEXT:
        raise Untrusted(f"is too long: {len(text):,} characters")
    return parse(cls, body_of(text))


def parse(cls: type[T], text: str | bytes, *, lenient: bool = False) -> T:
    """A message from its JSON. Raises Untrusted; `lenient` ignores unknown fields."""
    try:
        return codec.decode(cls, codec.loads(text), lenient=lenient)
    except codec.Malformed as error:
        raise Untrusted(f"is malformed: {error}") from None


@dataclass(slots=True)
class Rejects:
    """Counts what was ignored, by place and by fault."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, where: str, error: Untrusted) -> str:
        """Counts it; returns a line for people the first time that this fault occurs there.

        Later, an empty text.
        """
        reason = str(error)
        # Grouped by the kind of fault: a stream of garbage must not fill the memory with its texts.
        kind = reason.partition(":")[0]
        self.counts[where, kind] += 1
        return f"{where}: an entry {reason}; it is ignored" if self.counts[where, kind] == 1 else ""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def summary(self) -> Sequence[str]:
        """A line for each place and fault that occurred more than once."""
        return [
            f"{where}: {count:,} entries were ignored, each of which {kind}"
            for (where, kind), count in sorted(self.counts.items())
            if count > 1
        ]
