"""The whole exception tree, with the exit code of each branch.

A failing test is data and never one of these; an exception here means that a user's input or a
machine is at fault.

    DctError (3)
    ├── UsageError (4)              a flag, variable, file or label is wrong
    │   ├── ConfigError (4)
    │   │   ├── StoreRefused (4)    URL, password, rights, certificate or fitness of the store: no retry mends it
    │   │   └── BrokerRefused (4)   the same of the broker
    │   ├── Untrusted (4)           what another machine wrote is not signed with our key, or not well-formed
    │   └── CollectionError (4)     the suite could not be built: settings, imports of the runner, labels
    ├── NothingSelected (5)
    ├── Interrupted (2)
    ├── ProjectError (1)            the project's own fault before any test: system checks, migrations
    └── InfrastructureError (7)     a machine, server or network
        ├── StoreUnavailable
        ├── BrokerUnavailable
        ├── DatabaseError
        │   ├── CloneFailed
        │   └── DatabaseUnfit (4)   the server is too old, or our role lacks a right: asking again mends nothing
        ├── LeaseLost
        └── TestProcessError
            ├── ProcessDied
            └── ProtocolError

The message is one line: what is wrong, where it comes from, and the mend.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class DctError(Exception):
    """Internal error: the fault is ours."""

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str = "", *, detail: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())
        self.detail = detail
        """Text of many lines that belongs below the message (a traceback of the project, a diff); may be empty."""


class UsageError(DctError):
    """The command line, the configuration or a label is wrong."""

    exit_code = 4


class ConfigError(UsageError):
    """A setting is unknown or has a bad value."""


class StoreRefused(ConfigError):
    """The store is there and does not serve us, or its URL is wrong."""


class BrokerRefused(ConfigError):
    """The broker is there and does not serve us, or its URL is wrong."""


class Untrusted(UsageError):
    """What another machine wrote is not signed with our key, or is malformed."""


class CollectionError(UsageError):
    """The suite could not be built."""


class NothingSelected(DctError):
    """No test was selected."""

    exit_code = 5


class Interrupted(DctError):
    """The run was interrupted."""

    exit_code = 2


class ProjectError(DctError):
    """The project failed before any test ran, as it would in a sequential run."""

    exit_code = 1


class InfrastructureError(DctError):
    """A machine, a server or the network failed."""

    exit_code = 7


class StoreUnavailable(InfrastructureError):
    """The store cannot be reached."""


class Superseded(InfrastructureError):
    """Another dispatcher has the run now."""


class BrokerUnavailable(InfrastructureError):
    """The broker cannot be reached."""


class ServerFault(StrEnum):
    """What a database server lacks, in words that end "the server ..."."""

    CONNECTIONS = "has no connection left"
    DISK = "has a full disk"
    AWAY = "does not answer"


class DatabaseError(InfrastructureError):
    """The database server refused something we need."""

    def __init__(
        self, message: str = "", *, detail: str = "", fault: ServerFault | None = None
    ) -> None:
        super().__init__(message, detail=detail)
        self._fault = fault

    @property
    def fault(self) -> ServerFault | None:
        """What the server lacks, by its own code for the error; None where the error is not the
        server's. An error that was raised from another one has that one's.
        """
        if self._fault is None and isinstance(self.__cause__, DatabaseError):
            return self.__cause__.fault
        return self._fault


class CloneFailed(DatabaseError):
    """A clone could not be made or verified."""


class DatabaseUnfit(DatabaseError):
    """The database server, or our role on it, cannot do what we need, however often it is asked."""

    exit_code = 4


class LeaseLost(InfrastructureError):
    """The lease of this chunk is no longer ours; what we hold of it is void."""


class TestProcessError(InfrastructureError):
    """The test process or its loader did not do its part."""

    __test__ = False


class ProcessDied(TestProcessError):
    """The test process ended without saying so."""


class ProtocolError(TestProcessError):
    """A message between slot and test process could not be understood."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data
