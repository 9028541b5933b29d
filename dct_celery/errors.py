"""The whole exception tree, with the exit code of each branch.

A failing test is data and never one of these; an exception here means that a user's input or a
machine is at fault.

    DctError (3)
    ├── UsageError (4)              a flag, variable, file or label is wrong
    │   ├── ConfigError (4)
    │   │   ├── StoreRefused (4)    the store's URL, password, rights, certificate or version
    │   │   ├── BrokerRefused (4)   the same of the broker
    │   │   ├── GuardRefused (4)    a database or file that tests must not come near
    │   │   │   └── NameRefused     by its name alone
    │   │   └── NoLocalServer (4)   no server program for a run of one machine
    │   ├── Untrusted (4)           a message is not signed with our key, or is malformed
    │   └── CollectionError (4)     the suite could not be built: settings, runner, labels
    ├── NothingSelected (5)
    ├── Interrupted (2)
    ├── ProjectError (1)            the project fails before any test: system checks, migrations
    └── InfrastructureError (7)     a machine, server or network
        ├── StoreUnavailable
        ├── Superseded
        ├── BrokerUnavailable
        ├── DatabaseError
        │   ├── CloneFailed
        │   └── DatabaseUnfit (4)   the server is too old, or our role lacks a right
        │       └── UnsupportedDatabase (4)  no driver, or a vendor that cannot be cloned
        ├── MachineUnfit (4)        this machine has less than one slot takes
        ├── LeaseLost
        └── TestProcessError
            ├── ProcessDied
            └── ProtocolError

NameRefused, NoLocalServer, UnsupportedDatabase and MachineUnfit are `Unsuited`: the project's own
command may run the tests in sequence.

What a retry cannot fix exits with 4, everything else about machines with 7 (I10). The message is
one line: what is wrong, where it comes from, and how to fix it.
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
        """Lines to print below the message (a traceback of the project, a diff); may be empty."""


class Unsuited(DctError):
    """The tests cannot be distributed, though the project's own command may run them."""

    exit_code = 4


class UsageError(DctError):
    """The command line, the configuration or a label is wrong."""

    exit_code = 4


class ConfigError(UsageError):
    """A setting is unknown or has a bad value."""


class StoreRefused(ConfigError):
    """The store is reachable but refuses us, or its URL is wrong."""


class BrokerRefused(ConfigError):
    """The broker is reachable but refuses us, or its URL is wrong."""


class GuardRefused(ConfigError):
    """Tests must not come near this: it looks like production, or others can change it."""


class NameRefused(GuardRefused, Unsuited):
    """By its name, a configured database is for production."""


class NoLocalServer(ConfigError, Unsuited):
    """This machine has no server program for a run of its own."""


class Untrusted(UsageError):
    """A message from another machine is malformed or not signed with our key."""


class CollectionError(UsageError):
    """The suite could not be built."""

    def __init__(
        self, message: str = "", *, detail: str = "", session: str = "", status: int | None = None
    ) -> None:
        super().__init__(message, detail=detail)
        self.session = session
        """What the framework itself has reported: see `wire.messages.Loaded`; may be empty."""
        self.status = status
        """Exit status with which the framework ended by itself; None if it did not."""


class NothingSelected(DctError):
    """No test was selected."""

    exit_code = 5

    def __init__(self, message: str = "", *, detail: str = "", session: str = "") -> None:
        super().__init__(message, detail=detail)
        self.session = session
        """As in CollectionError."""


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
    """Another dispatcher has taken over the run."""


class BrokerUnavailable(InfrastructureError):
    """The broker cannot be reached."""


class ServerFault(StrEnum):
    """What a database server lacks, as a predicate of "the server"."""

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
        """What the server lacks, by its own error code; None where the error is not the server's.

        Inherited from the error that this one was raised from.
        """
        if self._fault is None and isinstance(self.__cause__, DatabaseError):
            return self.__cause__.fault
        return self._fault


class CloneFailed(DatabaseError):
    """A clone could not be made or verified."""


class DatabaseUnfit(DatabaseError):
    """The database server, or our role on it, cannot do what we need; no retry helps."""

    exit_code = 4


class UnsupportedDatabase(DatabaseUnfit, Unsuited):
    """A vendor that cannot be cloned, or whose driver is not installed."""


class MachineUnfit(InfrastructureError, Unsuited):
    """This machine has less than one slot takes."""

    exit_code = 4


class LeaseLost(InfrastructureError):
    """The lease of this chunk is no longer ours; unsent results of it are void."""


class TestProcessError(InfrastructureError):
    """The test process or its loader failed."""

    __test__ = False


class ProcessDied(TestProcessError):
    """The test process ended without an end message."""


class ProtocolError(TestProcessError):
    """A message between slot and test process could not be understood."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


# -- names of django-concurrent-test ---------------------------------------------------
# Each catches what it is equal to, and what is below that in the tree.

ConcurrentTestException = DatabaseTemplateException = DctError
ConfigurationException = ConfigError
SecurityException = GuardRefused
DatabaseCloneException = CloneFailed
PermissionException = DatabaseUnfit
ResourceException = MachineUnfit
#: The worker did not renew its lease in time.
WorkerTimeout = LeaseLost
#: What a retry on another machine may mend.
WorkerRetryException = InfrastructureError
#: A test over its limit is a verdict here; what is raised is about its process.
TestTimeoutException = TestProcessError
