"""The decision what becomes of each database that a collector finds: dropped, left, or looked at
again.

The rule above all others: what carries no mark of ours is left, whatever its name is. What could
still be in somebody's hands is dropped only when it looked dead at an earlier look, too. Times are
Unix seconds on the database server's clock. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from dct_celery.core.databases.marks import Found, Mark
from dct_celery.core.databases.names import OURS, REGISTRY

#: Kinds of marks that are kept for later runs.
KEPT = ("template", "flushed", "idle")
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one database, and why, in words that a user reads."""

    drop: bool
    reason: str
    #: Nobody seems to be behind it, but it must look so twice.
    dead: bool = False


def judge(
    found: Found,
    *,
    alive: Collection[str],
    in_use: Callable[[str], bool],
    locked: Collection[str],
    templates: Collection[str],
    dead_before: Collection[str],
    now: int,
) -> Decision:
    """`alive`: owners whose sign of life stands; `in_use`: somebody holds this template; `locked`:
    names that somebody builds; `templates`: those that are there and sealed; `dead_before`: names
    that looked dead at an earlier look.
    """
    mark = found.mark
    if not OURS.match(found.name) or found.name == REGISTRY:
        return Decision(False, "is no database of a run")
    if not found.ours:
        return Decision(False, found.void or "carries no mark of ours")
    if mark is None or mark.kind == "building":
        return _unfinished(found, mark, alive, locked, dead_before)
    if mark.kind == "clone":
        return _clone(found, mark, alive, dead_before)
    return _kept(found, mark, in_use, templates, now)


def _unfinished(
    found: Found,
    mark: Mark | None,
    alive: Collection[str],
    locked: Collection[str],
    dead_before: Collection[str],
) -> Decision:
    if found.name in locked or (mark is not None and mark.owner and mark.owner in alive):
        return Decision(False, f"is being made{_by(mark)}")
    if found.name in dead_before:
        return Decision(True, f"was never finished{_by(mark)}", dead=True)
    return Decision(False, "may still be in the making; looked at again", dead=True)


def _clone(
    found: Found, mark: Mark, alive: Collection[str], dead_before: Collection[str]
) -> Decision:
    if mark.owner and mark.owner in alive:
        return Decision(False, f"in use{_by(mark)}")
    if found.name in dead_before:
        return Decision(True, f"its owner is gone: made{_by(mark)}", dead=True)
    return Decision(False, "its owner is gone; looked at again", dead=True)


def _kept(
    found: Found, mark: Mark, in_use: Callable[[str], bool], templates: Collection[str], now: int
) -> Decision:
    idle = mark.kind == "idle"
    if idle and mark.template not in templates:
        return Decision(True, f"its template {mark.template or '(not said)'} is gone")
    if not mark.expires or mark.expires > now:
        return Decision(False, f"kept for later runs{_until(mark, now)}")
    if not idle and in_use(found.name):
        return Decision(False, "in use, though its time is over")
    return Decision(
        True, f"unused for {_days(now - mark.used)}" if mark.used else "its time is over"
    )


def surplus(
    found: Iterable[Found], *, kept: int, megabytes: int, in_use: Callable[[str], bool]
) -> list[str]:
    """Names of what exceeds `kept` databases or `megabytes` in sum, least recently used first.

    Counted are templates and idle clones alone. What is in use counts, but is never among the
    names; an idle clone goes with its template.
    """
    counted = [
        one
        for one in found
        if one.mark is not None and one.mark.kind in KEPT and OURS.match(one.name)
    ]
    count, size = len(counted), sum(one.bytes for one in counted)
    gone: dict[str, Found] = {}
    for one in sorted(counted, key=_last_used):
        if count <= kept and size <= megabytes * 1_000_000:
            break
        if one.name in gone or (not _is_idle(one) and in_use(one.name)):
            continue
        dependants = [
            other
            for other in counted
            if _is_idle(other) and other.mark and other.mark.template == one.name
        ]
        new = {each.name: each for each in (*dependants, one) if each.name not in gone}
        gone |= new
        count, size = count - len(new), size - sum(each.bytes for each in new.values())
    return list(gone)


def _is_idle(found: Found) -> bool:
    return found.mark is not None and found.mark.kind == "idle"


def _last_used(found: Found) -> tuple[int, bool, str]:
    """Of a template and its clone that were used at the same time the clone goes first."""
    return (found.mark.used if found.mark else 0, not _is_idle(found), found.name)


def _by(mark: Mark | None) -> str:
    if mark is None:
        return ""
    return (f" by run {mark.run}" if mark.run else "") + (
        f" on worker {mark.worker}" if mark.worker else ""
    )


def _until(mark: Mark, now: int) -> str:
    return f", {_days(mark.expires - now)} more" if mark.expires else ""


def _days(seconds: int) -> str:
    """ "3 days", "5 hours", "less than an hour"."""
    for unit, length in (("day", _DAY), ("hour", 3600)):
        if (count := seconds // length) > 0:
            return f"{count} {unit}{'s' * (count != 1)}"
    return "less than an hour"
