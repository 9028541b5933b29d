"""`dct attach`: takes a run over from a dispatcher that died, with the journal of this machine, or from the store alone."""

from __future__ import annotations

from dataclasses import dataclass

from dct_celery.dispatcher import journal as journals
from dct_celery.dispatcher.head import Head, expand, hollow
from dct_celery.dispatcher.journal import Journal, open_journal
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.errors import Interrupted, UsageError
from dct_celery.ports import Adoption

#: Seconds between two questions for the run.
_ASK = 0.5


@dataclass(frozen=True, slots=True)
class Adopted:
    """A run that is ours now. `whole`: the store has lost nothing of it since it was last put there."""

    head: Head
    #: The specification that workers read, values of variables included.
    spec: str
    journal: Journal
    epoch: int
    incarnation: str
    whole: bool


def adopt(services: DispatcherServices) -> Adopted:
    """Raises UsageError for a run that is unknown, over, or has a living dispatcher; StoreUnavailable; Interrupted."""
    text, held = _own_journal(services)
    if held is not None and _stale(services, text):
        held.close()
        held, text = None, ""
    stored = services.ledger.head()
    if not text and stored is None and services.ledger.state() not in ("none", "closed"):
        raise UsageError(f"run {services.run} has no manifest yet, so nothing of it has run; start it again")
    adoption = _ask(services, dead=held is not None)
    if adoption.status == "closed":
        raise UsageError(f"run {services.run} has ended; its reports were written by its dispatcher, or it was given up")
    if adoption.status == "none" and not text:
        known = "neither to the store nor to this machine's journals; dct status names the runs"
        raise UsageError(f"run {services.run} is not known, {known}")
    head = Head.parse(text or expand(stored or b""), services.key)
    spec = services.ledger.spec() or head.spec_text(services.environ, services.key)
    journal = held or open_journal(services.journals, services.run, head.text(services.key))
    incarnation = services.ledger.incarnation()
    whole = adoption.status == "ok" and (not adoption.incarnation or adoption.incarnation == incarnation)
    return Adopted(head, spec, journal, adoption.epoch, incarnation, whole)


def _own_journal(services: DispatcherServices) -> tuple[str, Journal | None]:
    """Its head and itself, its lock held: so the dispatcher that wrote it is dead. UsageError when that one is alive."""
    try:
        text, _ = journals.read(journals.path(services.journals, services.run))
    except OSError:
        return "", None
    if not text:
        return "", None  # its dispatcher died before the first line: the store has all that there is
    return text, open_journal(services.journals, services.run, text, go_on=True)


def _stale(services: DispatcherServices, text: str) -> bool:
    """The journal is of an earlier run of the same name."""
    spec = services.ledger.spec()
    return spec is not None and Head.parse(text, services.key).spec != hollow(spec)


def _ask(services: DispatcherServices, *, dead: bool) -> Adoption:
    said = False
    while (adoption := services.ledger.adopt(services.owner, dead=dead)).status == "held":
        if services.interrupted():
            raise Interrupted("interrupted while waiting for the run; nothing was changed")
        if not said:
            seconds = adoption.wait_ms / 1000
            who = f"the dispatcher of {services.run}"
            services.console.line(f"{who} was alive a moment ago; waiting {seconds:.0f} s for it to be gone")
            said = True
        services.sleep(_ASK)
    return adoption
