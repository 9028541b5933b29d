"""Processes that run the project's code."""

from __future__ import annotations

from typing import Protocol

from dct_celery.wire import messages


class UserProcess(Protocol):
    """A collect process or a loader."""

    @property
    def pid(self) -> int: ...

    def send(self, message: messages.Message) -> None:
        """If the process has ended, the next `receive` says so."""

    def receive(self, timeout: float | None = None) -> messages.Message | None:
        """The next message; None after `timeout` seconds. Raises ProcessDied or ProtocolError."""

    def alive(self) -> bool: ...

    def show_stacks(self) -> None:
        """Makes it write the stacks of its threads into its log, and waits a moment for that."""

    def kill(self) -> None:
        """Ends it and its forks at once; safe from any thread."""

    def close(self, grace: float = 5.0) -> None:
        """Closes the channel, which ends it, and kills what remains after `grace` seconds."""
