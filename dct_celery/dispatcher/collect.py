"""The collect process: builds the suite once, on the dispatcher's side, and sends the manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dct_celery.core import backends
from dct_celery.core.model import Entry, Manifest, Verdict
from dct_celery.errors import CollectionError, ProcessDied, ProtocolError
from dct_celery.ports import UserProcess
from dct_celery.wire import messages

#: Seconds between two calls of `meanwhile`.
_POLL = 0.2
#: Longest gap between two polls that is charged to the project, in seconds. After a longer one,
#: this process was probably stopped itself.
_GAP = 1.0


@dataclass(frozen=True, slots=True)
class Collected:
    manifest: Manifest
    loaded: messages.Loaded

    def rerun(self, verdict: Verdict) -> str:
        """The command that runs one test alone, without workers."""
        return backends.rerun(self.loaded.rerun, verdict.entry)

    def rerun_after(self, classes: Sequence[Entry], entry: Entry, *options: str) -> str:
        """The command that runs it after the classes of these tests; `options` keep this order."""
        return backends.rerun_after((*self.loaded.rerun, *options), classes, entry)


@dataclass(slots=True)
class Patience:
    """How long the project may take to build its suite, in seconds (0: no limit).

    Time during which this process itself was stopped does not count.
    """

    limit: float
    clock: Callable[[], float]
    _spent: float = 0.0
    _seen: float = -1.0

    def lost(self) -> bool:
        """Whether the limit is exceeded. To be called several times a second."""
        now = self.clock()
        self._spent += min(now - self._seen, _GAP) if self._seen >= 0 else 0.0
        self._seen = now
        return 0 < self.limit < self._spent


def collect(
    process: UserProcess,
    output_tail: Callable[[], str],
    meanwhile: Callable[[], object],
    patience: Patience,
) -> Collected:
    """Waits for the manifest. Raises CollectionError with the project's error.

    `output_tail()` returns the end of its output. `meanwhile` is called several times a second and
    may raise to end the wait.
    """
    try:
        while (answer := process.receive(timeout=_POLL)) is None:
            meanwhile()
            if patience.lost():
                process.show_stacks()
                text = (
                    f"building the suite took longer than {patience.limit:g} s (--fixture-timeout);"
                    " its stack is shown below"
                )
                raise CollectionError(text, detail=output_tail())
        if isinstance(answer, messages.Fatal):
            raise CollectionError(
                explained(answer),
                detail=answer.detail,
                session=answer.session,
                status=answer.status,
            )
        assert isinstance(answer, messages.Loaded), answer
        entries: list[Entry] = []
        while isinstance(part := process.receive(), messages.Entries) and not part.last:
            entries += part.entries
    except ProcessDied as died:
        raise CollectionError(
            f"the suite could not be collected: {died}", detail=output_tail()
        ) from died
    except ProtocolError as error:
        raise CollectionError(f"the suite's description of itself is malformed: {error}") from None
    manifest = Manifest(tuple(entries))
    if manifest.digest != answer.digest:
        raise CollectionError(
            "the manifest changed while it was collected: test ids must not differ from call to"
            " call"
        )
    return Collected(manifest, answer)


def explained(fatal: messages.Fatal) -> str:
    if fatal.reason == "settings":
        return f"the settings cannot be used: {fatal.message}"
    return fatal.message
