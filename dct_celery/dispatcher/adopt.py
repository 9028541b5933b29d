"""`dct attach`: takes over the run of a dead dispatcher, from its journal or from the store."""

from __future__ import annotations

from dataclasses import dataclass

from dct_celery.dispatcher import journal as journals
from dct_celery.dispatcher.journal import Journal, open_journal
from dct_celery.dispatcher.run_snapshot import RunSnapshot
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.dispatcher.stored_run import MOST_EPOCHS
from dct_celery.errors import Interrupted, Untrusted, UsageError
from dct_celery.ports.reporting import Notice
from dct_celery.protocol.heads import expand
from dct_celery.protocol.leases import AdoptAnswer, Adoption
from dct_celery.protocol.runs import RunSpec, RunState

#: Seconds between two attempts to adopt a run that is still held.
_RETRY = 0.5


@dataclass(frozen=True, slots=True)
class Adopted:
    """A run that is ours now. `whole`: the store has lost nothing of it."""

    snapshot: RunSnapshot
    spec: RunSpec
    journal: Journal
    epoch: int
    incarnation: str
    whole: bool


def adopt(services: DispatcherServices) -> Adopted:
    """Raises UsageError for a run that is unknown, has ended, or has a living dispatcher;
    StoreUnavailable; Interrupted.
    """
    text, held = _own_journal(services)
    stored = services.ledger.head()
    if (
        not text
        and stored is None
        and services.ledger.state() not in (RunState.NONE, RunState.CLOSED)
    ):
        raise UsageError(
            f"run {services.run} has no manifest yet, so nothing of it has run; start it again"
        )
    adoption = _ask(services, dead=held is not None)
    if adoption.answer is AdoptAnswer.CLOSED:
        raise UsageError(
            f"run {services.run} has ended; its dispatcher has written its reports, or it was"
            " given up"
        )
    if adoption.answer is AdoptAnswer.NONE and not text:
        known = "neither to the store nor to this machine's journals; dct status names the runs"
        raise UsageError(f"run {services.run} is not known, {known}")
    snapshot = RunSnapshot.parse(text or expand(stored or b""), services.door)
    spec = _stored_spec(services) or snapshot.whole_spec(services.environ, services.door)
    journal = held or open_journal(
        services.journals, services.run, snapshot.text(services.door), services.door
    )
    incarnation = services.ledger.incarnation()
    whole = adoption.answer is AdoptAnswer.OK and (
        not adoption.incarnation or adoption.incarnation == incarnation
    )
    # A greater epoch is forged: `StoredRun.loss` will see the difference, and the run is put back.
    return Adopted(snapshot, spec, journal, min(adoption.epoch, MOST_EPOCHS), incarnation, whole)


def _own_journal(services: DispatcherServices) -> tuple[str, Journal | None]:
    """The head of this machine's journal of the run, and the journal with its lock held.

    That we get the lock proves that its dispatcher is dead. ("", None) if there is no journal of
    the run, or only one of an earlier run with the same id. Raises UsageError if the dispatcher is
    alive.
    """
    try:
        text, _ = journals.read(journals.path(services.journals, services.run))
    except OSError:
        return "", None
    if not text:
        # Its dispatcher died before the first line was written: the store has all that there is.
        return "", None
    try:
        RunSnapshot.parse(text, services.door)
    except Untrusted:
        return "", None
    return text, open_journal(services.journals, services.run, text, services.door, go_on=True)


def _stored_spec(services: DispatcherServices) -> RunSpec | None:
    """The specification in the store; None if it is not the run's."""
    try:
        return services.ledger.spec()
    except Untrusted:
        return None


def _ask(services: DispatcherServices, *, dead: bool) -> Adoption:
    reported = False
    while (adoption := services.ledger.adopt(services.owner, dead=dead)).answer is AdoptAnswer.HELD:
        if services.interrupted():
            raise Interrupted("interrupted while waiting for the run; nothing was changed")
        if not reported:
            seconds = adoption.wait_ms / 1000
            who = f"the dispatcher of {services.run}"
            services.report(
                Notice(f"{who} was alive a moment ago; waiting {seconds:.0f} s for it to be gone")
            )
            reported = True
        services.sleep(_RETRY)
    return adoption
