"""The canonical order, and what may be out of it (I13).

The canonical order is that of the manifest: the order of the sequential run. A test can depend on
what ran before it, mostly without anyone knowing. So whatever runs in one process runs in this
order, and the plan keeps to it as well, except for work that would stretch the end of the run if it
began only when its turn comes.

A bad verdict from a process whose past was not that of the sequential run may be due to order: a
*victim* fails after a *polluter*, unless a *cleaner* comes between them; a *brittle* test fails
without a *state-setter*. `search` finds out by running it again in fresh processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from dct_celery.core.model import OrderKind


def ascends(indices: Sequence[int], after: int | None) -> bool:
    """Whether a process whose last test was `after` (None: none yet) may run these tests.

    `indices` are manifest indices, ascending, at least one.
    """
    return after is None or indices[0] > after


def stretching(seconds: Sequence[float], slots: int, tolerance: float) -> list[int]:
    """Positions of the pieces of work that must begin early, in ascending order.

    `seconds`: what each piece takes, in canonical order; `slots` share them, at least 1. A piece
    that begins when all before it have been handed out ends after everything else if it is longer
    than what follows it can keep the other slots busy. Up to `tolerance` seconds of that are
    accepted.
    """
    early: list[int] = []
    following = 0.0
    for position in range(len(seconds) - 1, -1, -1):
        length = seconds[position]
        if slots > 1 and length > following / (slots - 1) + tolerance:
            early.append(position)
        else:
            following += length
    return early[::-1]


#: Factor by which stretches of predecessors grow from one try to the next.
GROWTH = 8

#: Atoms that run before another one in its process: their positions in canonical order, ascending.
Preamble = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a search found out about one bad verdict."""

    #: What ran before it where it got the verdict that counts; None if its first verdict counts.
    preamble: Preamble | None
    #: None for an ordinary failure.
    kind: OrderKind | None
    #: Position of the polluter or state-setter, if one was found.
    partner: int | None
    #: One clause, to follow "it".
    proven_by: str
    proven: bool = True
    #: What to run before it to see it fail (a victim) or pass (a brittle test).
    shown_after: Preamble = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """A search wants to know whether the test is bad after this preamble in a fresh process."""

    preamble: Preamble
    #: What is known so far, if there is no answer.
    so_far: Finding
    #: How often it was asked before; only a flaky test gives another answer.
    again: int = 0

    @property
    def key(self) -> Try:
        return self.preamble, self.again


#: Identifies what was tried: preamble, and how often it was tried before.
Try = tuple[Preamble, int]
#: Yields what to try, is sent whether the test was bad then, and returns what it found.
Search = Generator[Ask, bool, Finding]
#: Position -> the first of the predecessors that can all be run before it within the budget.
Reach = Callable[[int], int]


_FLAKY = Finding(None, OrderKind.FLAKY, None, "failed and passed after the same tests")


#: Position of a class -> what is known to be needed before it.
Needs = Callable[[int], Preamble]


def _no_limit(atom: int) -> int:
    return 0


def _nothing(atom: int) -> Preamble:
    return ()


def search(
    atom: int,
    past: Preamble | None,
    *,
    passed_alone: bool,
    partners: Sequence[int] = (),
    reach: Reach = _no_limit,
    needs: Needs = _nothing,
) -> Search:
    """Settles a bad verdict of an atom at this position.

    `past`: what ran before it in its process, None if that is not known. `passed_alone`: it is
    known to have passed in a process of its own. `partners`: positions to try first, found for
    failures that look the same.
    """
    unproven = Finding(None, OrderKind.UNPROVEN, None, "was not run alone", proven=False)
    bad_alone = True if past == () else (yield Ask((), unproven))
    if bad_alone:
        return (yield from _brittle(atom, passed_alone, partners, reach))
    if past is None:
        return Finding(
            None,
            OrderKind.UNPROVEN,
            None,
            "passes alone, and what ran before it is not known",
            proven=False,
        )
    return (yield from _victim(atom, past, partners, reach, needs))


def bisection(atom: int, past: Preamble | None, *, failed: bool) -> Search:
    """Finds out what a test's verdict depends on, whatever that takes.

    `past`: what ran before it in a process in which it failed, or passed; None if that is not
    known, so that all of its predecessors have to stand for it.
    """
    if failed:
        past = _stretch(0, atom) if past is None else past
        found = yield from search(atom, past, passed_alone=False)
    else:
        found = yield from _unseen(atom, past)
    match found.kind:
        case OrderKind.VICTIM | OrderKind.BRITTLE:
            bad, good = found.shown_after, ()
            if found.kind is OrderKind.BRITTLE:
                bad, good = good, bad
            sure = yield from _certain(bad=bad, good=good, so_far=found, tries=(4, 5))
            return found if sure else _FLAKY
        case None if found is not _SOUND:
            return (yield from _ordinary(found))
        case _:
            return found


_SOUND = Finding(None, None, None, "passes alone and after all that runs before it")
_ALWAYS = "fails alone and after all that runs before it"


def _unseen(atom: int, past: Preamble | None) -> Search:
    """It passed after `past`, and nobody has seen it fail: perhaps it does in canonical order, or
    alone.
    """
    everything = _stretch(0, atom)
    so_far = Finding(None, OrderKind.UNPROVEN, None, "passed, and was not run again", proven=False)
    bad_in_order = yield Ask(everything, so_far)
    bad_alone = yield Ask((), so_far)
    if (bad_alone and past == ()) or (bad_in_order and past == everything):
        return _FLAKY
    if bad_in_order and bad_alone:
        if past is None:
            return Finding((), None, None, _ALWAYS)
        both = replace(so_far, preamble=(), proven_by=f"{_ALWAYS}, but passed after some of it")
        return _FLAKY if (yield Ask(past, both)) else both
    if bad_in_order:
        found = yield from _victim(atom, everything, (), _no_limit, _nothing)
        # The verdict that counts is that of the canonical order, not that of the earlier run.
        return replace(found, preamble=everything) if found.kind is OrderKind.VICTIM else found
    if bad_alone:
        return (yield from _brittle(atom, False, (), _no_limit))
    return _SOUND


def _ordinary(found: Finding) -> Search:
    """What fails in every order fails alone, time and again."""
    for again in (2, 3):
        if not (yield Ask((), replace(found, proven=False), again)):
            return _FLAKY
    return replace(found, proven_by=_ALWAYS)


def ahead(begin: Callable[[], Search], known: Mapping[Try, bool], most: int) -> list[Ask]:
    """What a search wants to know next, and then what it will want to know after either answer.

    At most so many, the nearest first; only the first one is certain to be wanted. `begin` starts
    the search anew, `known` are the answers so far. It must ask the same after the same answers.
    """
    asks: dict[Try, Ask] = {}
    branches: deque[dict[Try, bool]] = deque([{}])
    for _ in range(4 * most):  # branches may ask the same
        if not branches or len(asks) >= most:
            break
        supposed = branches.popleft()
        ask = _next_ask(begin(), {**known, **supposed})
        if ask is not None:
            asks.setdefault(ask.key, ask)
            branches += [{**supposed, ask.key: bad} for bad in (True, False)]
    return list(asks.values())


def _next_ask(search: Search, answers: Mapping[Try, bool]) -> Ask | None:
    """The first question without an answer; None if the search comes to its end."""
    try:
        ask = next(search)
        while ask.key in answers:
            ask = search.send(answers[ask.key])
    except StopIteration:
        return None
    return ask


def _brittle(atom: int, passed_alone: bool, partners: Sequence[int], reach: Reach) -> Search:
    """It is bad alone: an ordinary failure, or it needs something of what runs before it."""
    if passed_alone:
        return Finding(None, None, None, "fails alone, where it has passed before")
    so_far = Finding(
        None, OrderKind.UNPROVEN, None, "fails alone and was not tried after others", proven=False
    )
    for setter in partners:
        if setter < atom and not (yield Ask((setter,), so_far)):
            return _needs((setter,))
    # Bad after the predecessors from `bad_from` on, not bad after those from `good_from` on.
    bad_from, size = atom, 1
    while True:
        if bad_from == 0:
            return Finding(None, None, None, "fails after all that runs before it")
        start = _start(atom, size, bad_from, reach)
        if not (yield Ask(_stretch(start, atom), so_far)):
            good_from = start
            break
        bad_from, size = start, size * GROWTH
        count = atom - start
        before = "what runs right before it" if count == 1 else f"the {count} classes before it"
        so_far = replace(so_far, proven_by=f"fails alone and after {before}")
    if not (yield Ask((), so_far, again=1)):
        return _FLAKY
    so_far = _needs(_stretch(good_from, atom))
    while bad_from - good_from > 1:
        middle = (good_from + bad_from) // 2
        if (yield Ask(_stretch(middle, atom), so_far)):
            bad_from = middle
        else:
            good_from = middle
            so_far = _needs(_stretch(good_from, atom))
    needed = yield from _fewest((good_from,), _stretch(good_from + 1, atom), so_far, bad=False)
    if not (yield from _certain(bad=(), good=needed, so_far=so_far)):
        return _FLAKY
    return _needs(needed)


def _needs(preamble: Preamble) -> Finding:
    proven_by = f"fails alone and passes after it{_others(preamble)}"
    return Finding(preamble, OrderKind.BRITTLE, preamble[0], proven_by, shown_after=preamble)


def _others(preamble: Preamble) -> str:
    return f", together with {len(preamble) - 1} more" if len(preamble) > 1 else ""


def _victim(
    atom: int, past: Preamble, partners: Sequence[int], reach: Reach, needs: Needs
) -> Search:
    """It passes alone and was bad after its past: something there pollutes it, or it is flaky."""
    so_far = Finding(
        None, OrderKind.UNPROVEN, None, "passes alone; what it fails after was not found",
        proven=False,
    )  # fmt: skip
    for polluter in partners:
        if polluter in past and (yield Ask((polluter,), so_far)):
            return (yield from _cleaned(atom, (polluter,), reach, needs))
    # Bad after past[bad_from:], not bad after past[good_from:].
    good_from, size = len(past), 1
    while True:
        if good_from == 0:
            return _FLAKY
        start = max(len(past) - size, 0)
        if (yield Ask(past[start:], so_far)):
            bad_from = start
            break
        good_from, size = start, size * GROWTH
    while good_from - bad_from > 1:
        middle = (bad_from + good_from) // 2
        if (yield Ask(past[middle:], so_far)):
            bad_from = middle
        else:
            good_from = middle
    guilty = yield from _fewest(
        past[bad_from : bad_from + 1], past[bad_from + 1 :], so_far, bad=True
    )
    if not (yield from _certain(bad=guilty, good=(), so_far=so_far)):
        return _FLAKY
    return (yield from _cleaned(atom, guilty, reach, needs))


def _fewest(
    needed: Preamble, rest: Sequence[int], so_far: Finding, *, bad: bool
) -> Generator[Ask, bool, Preamble]:
    """`needed`, and those of `rest` without which the test is not `bad` after it, or is.

    After both it is. The last of the shortest beginning of `rest` that is enough with `needed` is
    needed as well, and nothing behind it is.
    """
    while rest and (yield Ask(needed, so_far)) is not bad:
        too_few, enough = 0, len(rest)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            if (yield Ask(tuple(sorted({*needed, *rest[:middle]})), so_far)) is bad:
                enough = middle
            else:
                too_few = middle
        needed = tuple(sorted({*needed, rest[enough - 1]}))
        rest = rest[: enough - 1]
    return needed


def _cleaned(atom: int, guilty: Preamble, reach: Reach, needs: Needs) -> Search:
    """It fails after these. The sequential run has more in between, which may clean up, and before
    them what they need themselves: a brittle class that fails may pollute because it failed.
    """
    first = guilty[0]
    after = f"passes alone and fails after it{_others(guilty)}"
    victim = Finding(None, OrderKind.VICTIM, first, after, shown_after=guilty)
    so_far = replace(
        victim, proven_by=f"{after}; whether something cleans up was not found out", proven=False
    )
    needed = {before for one in guilty for before in needs(one)}
    start, size = atom, 1
    while True:
        start = max(_start(atom, size, start, reach), first)
        preamble = tuple(sorted({*needed, *guilty, *_stretch(start, atom)}))
        if preamble != guilty and not (yield Ask(preamble, so_far)):
            return replace(
                victim, preamble=preamble, proven_by=f"{after}, unless others run as well"
            )
        if start == first:
            return victim
        size *= GROWTH


def _start(atom: int, size: int, last: int, reach: Reach) -> int:
    """Where a stretch of so many predecessors begins: before `last`, where the last one began.

    If there is no budget for it, as far back as there is; it takes no less than one more.
    """
    return max(atom - size, min(reach(atom), last - 1), 0)


def _certain(
    *, bad: Preamble, good: Preamble, so_far: Finding, tries: tuple[int, int] = (2, 3)
) -> Generator[Ask, bool, bool]:
    """Whether each gives the same answer again, twice: a pass on the first is no accident.

    A test that fails every other time must not give the answers that are expected.
    """
    first, second = tries
    for expected, again in ((False, first), (True, first), (True, second), (False, second)):
        if (yield Ask(bad if expected else good, so_far, again)) is not expected:
            return False
    return True


def _stretch(start: int, end: int) -> Preamble:
    return tuple(range(start, end))
