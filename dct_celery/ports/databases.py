"""Database servers: templates, clones, marks and liveness locks."""

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
    #: The project's own name, for people who look at the server; may be empty.
    project: str = ""

    @property
    def names(self) -> set[str]:
        """All aliases of this database; a flush through one of them empties it for all."""
        return {self.alias, *self.aliases}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatabaseSpec:
        """From what the loader sent. Raises ProtocolError: projects can write into its channel."""
        try:
            return codec.decode(cls, data)
        except codec.Malformed as error:
            raise ProtocolError(
                f"the loader's description of a database is malformed: {error}"
            ) from None


@dataclass(frozen=True, slots=True)
class DatabasePolicy:
    """How a worker treats database servers. Times are seconds."""

    #: Statements after which a connection is replaced; 0: never.
    max_operations: int = 1000
    #: Age at which a connection is replaced; 0: never.
    max_age: float = 3600.0
    #: A connection that was idle for longer is checked before it is used.
    health_check_seconds: float = 60.0
    #: Clones that one server makes at a time, over all workers; 0: as many as suits the vendor.
    clones_at_once: int = 0


@dataclass(slots=True)
class DatabaseStats:
    """What one adapter did, for the run's report. Seconds are sums."""

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
    """An owner's session on a database server; it protects what the owner made from collection.

    It ends with the process that holds it, however that dies; a server that does not hear from it
    for a minute ends it as well. Not for use by two threads at once.
    """

    def hold(self, template: str) -> None:
        """The template is not dropped while this lock is held."""

    def renew(self) -> None:
        """To be called every 10 s. Raises DatabaseError.

        After a loss (server restart) it takes the lock again, with all its holds.
        """

    def close(self) -> None: ...


class DatabaseServer(Protocol):
    """Templates and clones of one database server (or of one folder, for SQLite).

    Every method that writes checks names against `core.databases.names.OURS`, and raises
    DatabaseError "... is not one of our databases". Server errors are DatabaseError, in one line
    that names alias, server and fix. Not for use by two threads at once.
    """

    #: Clones are visible on this host only.
    local: bool
    #: "postgresql", "mysql" or "sqlite".
    vendor: str
    #: The server for messages ("db.example:5432"), without secrets.
    where: str
    stats: DatabaseStats

    def addresses(self) -> Iterator[str]:
        """Hosts and addresses of the server, as the connection knows them. Raises DatabaseError.

        The first is known before any statement is sent; others may take a query.
        """

    def identity(self) -> str:
        """The answer to `core.databases.server_identity.IDENTITY`; empty if there is no server.

        Raises DatabaseError.
        """

    def check(self) -> None:
        """Proves that the server answers, is not too old, and lets us do what we do.

        Raises DatabaseError with the fix.
        """

    def warnings(self) -> list[str]:
        """Warnings for `dct doctor` that stop nothing: slow settings, a connection pooler."""

    def facts(self) -> dict[str, str]:
        """Versions, encodings and collations that are part of a template's key."""

    def capacity(self) -> int:
        """Connections that the server can still give us, without reserved and used ones."""

    def now(self) -> int:
        """Unix seconds on the server's clock."""

    def incarnation(self) -> str:
        """A text that changes with each start of the server. Raises DatabaseError."""

    def place(self, name: str) -> str:
        """What the test process needs to open the database of this name: the name, or a path."""

    # -- marks and liveness locks

    def find(self, name: str) -> Mark | None:
        """The mark of a database that exists and is complete.

        None for absent, unmarked or half dropped ones.
        """

    def found(self, *, sizes: bool = False) -> list[Found]:
        """Every database whose name matches our pattern, marked or not."""

    def announce(self, name: str, mark: Mark) -> None:
        """Marks a database that Django is about to create, so that it is ours from its creation on.

        On PostgreSQL its maker must give it `CONNECTION LIMIT
        core.databases.names.ownership_limit(name)` instead.
        """

    def remark(self, name: str, mark: Mark) -> None:
        """Replaces the mark."""

    def liveness_lock(self, owner: str) -> LivenessLock: ...

    def alive(self, owners: Iterable[str]) -> set[str]:
        """Those of the owners whose liveness lock is held."""

    def in_use(self, template: str) -> bool:
        """Whether a living owner holds the template."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """The build lock of this template, for one holder at a time over all workers.

        It ends with its holder.
        """

    def locked(self, name: str) -> bool:
        """Whether the lock of that name is held."""

    # -- templates

    def seal(self, template: str, mark: Mark) -> None:
        """Declares a template finished; writes the mark last. After that nothing connects to it."""

    def state(self, name: str) -> str:
        """Hash of everything that a test can see: schema, rows, positions of sequences.

        Equal for a template and its clones.
        """

    def export(self, name: str, file: Path) -> bool:
        """Writes a file for `restore` on an empty server; False if programs for it are missing."""

    def restore(self, file: Path, name: str, mark: Mark) -> None:
        """Makes a database from an exported file, not yet sealed.

        Raises DatabaseError; then nothing of that name is left.
        """

    # -- clones

    def clone(self, template: str, name: str, mark: Mark) -> None:
        """Copies a sealed template and verifies the copy.

        Raises CloneFailed; then nothing of that name is left.
        """

    def heal(self, name: str, template: str, fresh: str, mark: Mark) -> str:
        """Makes a used clone equal to the template again, proves it, and returns its new name.

        That is `fresh` where the server can rename, else `name`. Sessions that are connected to it
        are ended. Raises CloneFailed; then nothing of either name is left.
        """

    def heals_cheaper(self, template: str) -> bool:
        """Whether healing is faster than cloning, as measured or known of the vendor."""

    def adopt(self, template: str, fresh: str, mark: Mark) -> str | None:
        """Takes an idle clone of the template for one owner, and proves it equal to the template.

        Returns its new name (see `heal`), or None if there is none that is equal; one that differs
        is dropped.
        """

    def healthy(self, name: str) -> bool:
        """Whether the server answers and the database exists."""

    def shape(self, name: str) -> str:
        """Cheap hash of the catalogs; changes after DDL or TRUNCATE in this database.

        Raises DatabaseError.
        """

    def discard(self, template: str) -> None:
        """Drops what a failed build left of a template, under its lock.

        It was announced or born, but may lack a mark. Raises DatabaseError for a database that is
        neither.
        """

    def drop(self, name: str) -> None:
        """Drops a database of ours and ends its sessions; does nothing if it is absent.

        Raises DatabaseError for a database that is not ours.
        """

    def close(self) -> None: ...
