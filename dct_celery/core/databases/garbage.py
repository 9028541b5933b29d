"""Decides what becomes of each database that a garbage collector finds.

It is dropped, kept, or checked again. The first rule: what carries no mark of ours is kept,
whatever its name. What may still be in use is dropped only if an earlier check found its owner dead
as well. Times are Unix seconds on the database server's clock.
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
    """What becomes of one database, and why, as users read it."""

    drop: bool
    reason: str
    #: Its owner seems dead; it is dropped once two checks have found that.
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
    """The decision about one database.

    `alive`: owners whose liveness lock is held; `in_use`: whether a template is held; `locked`:
    names that are being built; `templates`: those that exist and are sealed; `dead_before`: names
    whose owner an earlier check found dead.
    """
    mark = found.mark
    if not OURS.match(found.name) or found.name == REGISTRY:
        return Decision(False, "is not a database of a run")
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
    return Decision(False, "may still be being built; will be checked again", dead=True)


def _clone(
    found: Found, mark: Mark, alive: Collection[str], dead_before: Collection[str]
) -> Decision:
    if mark.owner and mark.owner in alive:
        return Decision(False, f"in use{_by(mark)}")
    if found.name in dead_before:
        return Decision(True, f"its owner is gone: made{_by(mark)}", dead=True)
    return Decision(False, "its owner is gone; will be checked again", dead=True)


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
    reason = f"unused for {_days(now - mark.used)}" if mark.used else "its time is over"
    return Decision(True, reason)


def surplus(
    found: Iterable[Found], *, kept: int, megabytes: int, in_use: Callable[[str], bool]
) -> list[str]:
    """Names of the databases beyond `kept` or `megabytes` in total, least recently used first.

    Only templates and idle clones are counted. One in use counts, but is never named; an idle clone
    goes with its template.
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
    """Sorts by last use; a clone comes before its template if both were used at the same time."""
    return (found.mark.used if found.mark else 0, not _is_idle(found), found.name)


def _by(mark: Mark | None) -> str:
    if mark is None:
        return ""
    run = f" by run {mark.run}" if mark.run else ""
    worker = f" on worker {mark.worker}" if mark.worker else ""
    return run + worker


def _until(mark: Mark, now: int) -> str:
    return f", {_days(mark.expires - now)} more" if mark.expires else ""


def _days(seconds: int) -> str:
    """ "3 days", "5 hours", "less than an hour"."""
    for unit, length in (("day", _DAY), ("hour", 3600)):
        if (count := seconds // length) > 0:
            return f"{count} {unit}{'s' * (count != 1)}"
    return "less than an hour"
