"""Database servers: templates, clones, marks and signs of life."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dct_celery.core import codec
from dct_celery.core.databases.marks import Found, Mark
from dct_celery.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class DatabaseSpec:
    """One test database of the selection, as the loader described it. `repr` hides the password."""

    alias: str
    vendor: str
    name: str
    host: str = ""
    port: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    in_memory: bool = False
    serialize: bool = False
    late_flush: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """All aliases of this database; a flush through one of them empties it for each."""
        return {self.alias, *self.aliases}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatabaseSpec:
        """As the loader has sent it. Raises ProtocolError: projects can write into its channel."""
        try:
            return codec.decode(cls, data)
        except codec.Malformed as error:
            raise ProtocolError(
                f"the loader's description of a database is malformed: {error}"
            ) from None


@dataclass(frozen=True, slots=True)
class DatabasePolicy:
    """How a worker treats database servers. Times are seconds."""

    #: Statements after which, and age at which, a connection is replaced; 0 never.
    max_operations: int = 1000
    max_age: float = 3600.0
    #: A connection that was silent for longer is asked whether it still answers before it is used.
    health_check_seconds: float = 60.0
    #: Clones that one server makes at a time, over all workers; 0: what suits the vendor.
    clones_at_once: int = 0


@dataclass(slots=True)
class DatabaseStats:
    """What one adapter really did, for the run's report. Seconds are sums."""

    opened: int = 0
    reused: int = 0
    recycled: int = 0
    failed: int = 0
    statements: int = 0
    cloned: int = 0
    clone_seconds: float = 0.0
    healed: int = 0
    heal_seconds: float = 0.0
    adopted: int = 0
    dropped: int = 0


class LivenessLock(Protocol):
    """An owner's session on a database server: as long as it stands, nobody collects what the owner
    made.

    It ends with the process that holds it, however that dies; a server that does not hear of it for
    a minute ends it as well. Not for use by two threads at once.
    """

    def hold(self, template: str) -> None:
        """The template is not dropped while this sign stands."""

    def renew(self) -> None:
        """To be called every 10 s. After a loss (server restart) it comes back with all its holds.
        Raises DatabaseError.
        """

    def close(self) -> None: ...


class DatabaseServer(Protocol):
    """Templates and clones of one database server (or of one folder, for SQLite). Not for use by
    two threads at once.

    Names are checked against `core.databases.names.OURS` by every method that writes: DatabaseError
    "... is not one of our databases". Server errors are DatabaseError with one line that names
    alias, server and mend.
    """

    #: Clones are visible on this host alone.
    local: bool
    #: "postgresql", "mysql" or "sqlite", and the server in words ("db.example:5432"), without
    #: secrets.
    vendor: str
    where: str
    stats: DatabaseStats

    def addresses(self) -> Iterator[str]:
        """Hosts and addresses of the server, as the connection knows them. The first comes before
        any statement is sent, others may be asked for. Raises DatabaseError.
        """

    def identity(self) -> str:
        """What `core.databases.server_identity.IDENTITY` answers here; empty where there is no
        server. Raises DatabaseError.
        """

    def check(self) -> None:
        """Proves that the server answers, is not too old, and lets us do what we do. Raises
        DatabaseError with the mend.
        """

    def warnings(self) -> list[str]:
        """What `dct doctor` should say though it stops nothing: slow settings, a pooler in between."""

    def facts(self) -> dict[str, str]:
        """Versions, encodings and collations that are part of a template's key."""

    def capacity(self) -> int:
        """Connections that the server can still give us, reserved and used ones taken off."""

    def now(self) -> int:
        """Unix seconds on the server's clock."""

    def incarnation(self) -> str:
        """Another text after each start of the server. Raises DatabaseError while it does not
        answer.
        """

    def place(self, name: str) -> str:
        """What the test process is to be told for a database of this name: the name, or a path."""

    # -- marks and signs of life

    def find(self, name: str) -> Mark | None:
        """The mark of a database that is there and complete; None for absent, unmarked or half
        dropped ones.
        """

    def found(self, *, sizes: bool = False) -> list[Found]:
        """Every database whose name matches our pattern, marked or not."""

    def announce(self, name: str, mark: Mark) -> None:
        """Says that a database of this name is about to be made by somebody else's hand (Django's),
        so that it is ours from its first moment. On PostgreSQL its maker must give it `CONNECTION
        LIMIT core.databases.names.ownership_limit(name)` instead.
        """

    def remark(self, name: str, mark: Mark) -> None:
        """Replaces the mark."""

    def liveness_lock(self, owner: str) -> LivenessLock: ...

    def alive(self, owners: Iterable[str]) -> set[str]:
        """Those of the owners whose sign of life stands."""

    def in_use(self, template: str) -> bool:
        """Somebody alive holds the template."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Held by one builder of this template at a time, over all workers. Ends with its holder."""

    def locked(self, name: str) -> bool:
        """Somebody holds the lock of that name."""

    # -- templates

    def seal(self, template: str, mark: Mark) -> None:
        """Declares a template finished, the mark last. Nothing connects to it any more."""

    def state(self, name: str) -> str:
        """Hash of everything a test could see: schema, rows, positions of sequences. Equal for a
        template's clones.
        """

    def export(self, name: str, file: Path) -> bool:
        """Writes what makes an equal database on an empty server; False where the means for it are
        missing.
        """

    def restore(self, file: Path, name: str, mark: Mark) -> None:
        """Makes a database of an exported file, not yet sealed. Raises DatabaseError; then nothing
        of that name is left.
        """

    # -- clones

    def clone(self, template: str, name: str, mark: Mark) -> None:
        """Copies a sealed template and verifies the copy. Raises CloneFailed; then nothing of that
        name is left.
        """

    def heal(self, name: str, template: str, fresh: str, mark: Mark) -> str:
        """Makes a used clone equal to the template again, proves it, and returns its name from now
        on: `fresh` where the server can rename, else `name`. Nobody may be connected; who is, is
        thrown out. Raises CloneFailed; then nothing of either name is left.
        """

    def heals_cheaper(self, template: str) -> bool:
        """By what was measured so far (or is known of the vendor): healing beats cloning this
        template.
        """

    def adopt(self, template: str, fresh: str, mark: Mark) -> str | None:
        """Takes an idle clone of the template, which nobody else gets then, and proves it equal to
        the template. Its name from now on (see `heal`), or None when there is none that is equal;
        one that is not is dropped.
        """

    def healthy(self, name: str) -> bool:
        """The server answers, and the database is there."""

    def shape(self, name: str) -> str:
        """Cheap hash of the catalogs: another one after DDL or TRUNCATE in this database. Raises
        DatabaseError.
        """

    def discard(self, template: str) -> None:
        """Drops what a failed build left of a template, under its lock: announced or born, but
        perhaps without a mark. Raises DatabaseError for a database that is neither.
        """

    def drop(self, name: str) -> None:
        """Drops a database of ours, sessions and all; absent is fine. Raises DatabaseError for one
        that is not ours.
        """

    def close(self) -> None: ...
