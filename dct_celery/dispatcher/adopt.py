"""`dct attach`: takes a run over from a dispatcher that died, with the journal of this machine, or
from the store alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from dct_celery.dispatcher import journal as journals
from dct_celery.dispatcher.journal import Journal, open_journal
from dct_celery.dispatcher.run_snapshot import RunSnapshot, expand
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.dispatcher.stored_run import MOST_EPOCHS
from dct_celery.errors import Interrupted, Untrusted, UsageError
from dct_celery.ports.reporting import Notice
from dct_celery.protocol.leases import AdoptAnswer, Adoption
from dct_celery.protocol.runs import RunSpec, RunState

#: Seconds between two questions for the run.
_ASK = 0.5


@dataclass(frozen=True, slots=True)
class Adopted:
    """A run that is ours now. `whole`: the store has lost nothing of it since it was last put
    there.
    """

    snapshot: RunSnapshot
    spec: RunSpec
    journal: Journal
    epoch: int
    incarnation: str
    whole: bool


def adopt(services: DispatcherServices) -> Adopted:
    """Raises UsageError for a run that is unknown, over, or has a living dispatcher;
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
            f"run {services.run} has ended; its reports were written by its dispatcher, or it was"
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
    # A greater one is nobody's: the store is told the run again once it is ours.
    return Adopted(snapshot, spec, journal, min(adoption.epoch, MOST_EPOCHS), incarnation, whole)


def _own_journal(services: DispatcherServices) -> tuple[str, Journal | None]:
    """Its head and itself, its lock held: so the dispatcher that wrote it is dead. Nothing where
    there is none of this run, or only one of an earlier run of the same name. UsageError when its
    dispatcher is alive.
    """
    try:
        text, _ = journals.read(journals.path(services.journals, services.run))
    except OSError:
        return "", None
    if not text:
        return (
            "",
            None,
        )  # its dispatcher died before the first line: the store has all that there is
    try:
        RunSnapshot.parse(text, services.door)
    except Untrusted:
        return "", None
    return text, open_journal(services.journals, services.run, text, services.door, go_on=True)


def _stored_spec(services: DispatcherServices) -> RunSpec | None:
    """What the store has; nothing where that is not the run's."""
    try:
        return services.ledger.spec()
    except Untrusted:
        return None


def _ask(services: DispatcherServices, *, dead: bool) -> Adoption:
    said = False
    while (adoption := services.ledger.adopt(services.owner, dead=dead)).answer is AdoptAnswer.HELD:
        if services.interrupted():
            raise Interrupted("interrupted while waiting for the run; nothing was changed")
        if not said:
            seconds = adoption.wait_ms / 1000
            who = f"the dispatcher of {services.run}"
            services.report(
                Notice(f"{who} was alive a moment ago; waiting {seconds:.0f} s for it to be gone")
            )
            said = True
        services.sleep(_ASK)
    return adoption
