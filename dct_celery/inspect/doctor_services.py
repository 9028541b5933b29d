"""What `dct doctor` says about the store, the broker, keys, clocks, workers and this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dct_celery import __version__
from dct_celery.core.environment import Difference, summary
from dct_celery.dispatcher.fleet import elsewhere
from dct_celery.inspect.doctor_databases import VERSIONS, Finding, counted, versions
from dct_celery.ports import WorkerInfo
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.security import signing
from dct_celery.settings import Settings

#: Seconds by which clocks may differ without a warning.
SKEW = 5.0
#: Seconds within which each worker has sent another heartbeat.
BEAT = 1.5
#: Share of its memory above which a store is likely to run out of memory during a run.
_FULL = 0.75
#: Open files that a process should be allowed.
_FILES = 1024
#: Bytes of /dev/shm that PostgreSQL's parallel queries need.
_SHARED = 64 * 2**20


# -- store and broker ------------------------------------------------------------------


def store(where: str, info: Mapping[str, Any], warnings: Iterable[str] = ()) -> Iterator[Finding]:
    """Findings about a store that has passed its checks.

    `info`: the answer to its INFO command; `warnings`: what could not be checked.
    """
    yield Finding("ok", "store", f"{where} answers, version {info.get('redis_version') or '?'}")
    for warning in warnings:
        text, _, fix = warning.partition("; ")
        yield Finding("warning", "store", text, fix)
    if "used_memory" in info:
        yield _memory(int(info["used_memory"]), int(info.get("maxmemory") or 0))
    if "aof_enabled" in info:
        yield _persistence(info)


def _memory(used: int, limit: int) -> Finding:
    room = f"of {_megabytes(limit)} (maxmemory)" if limit else "without a limit (maxmemory)"
    text = f"no key is evicted (noeviction); {_megabytes(used)} are in use {room}"
    if limit and used > _FULL * limit:
        fix = "CONFIG SET maxmemory to more: while it is full, runs stand still"
        return Finding("warning", "store", text, fix)
    return Finding("ok", "store", text)


def _persistence(info: Mapping[str, Any]) -> Finding:
    if info.get("rdb_last_bgsave_status", "ok") != "ok" and not int(info["aof_enabled"]):
        text = "its last snapshot to disk failed, so it may refuse writes"
        fix = 'make room on its disk, or CONFIG SET save "" there: dct needs no persistence'
        return Finding("warning", "store", text, fix)
    kept = "an append-only file" if int(info["aof_enabled"]) else "no append-only file"
    text = f"persistence: {kept}; after a restart a run is put back from its dispatcher's journal"
    return Finding("ok", "store", text)


def broker(where: str, version: str, seconds: float, *, same: bool) -> Finding:
    """`seconds`: the round trip of a message. `same`: the store is the broker."""
    named = f"{where} (version {version})" if version else where
    if same:
        named = "the store"
    text = f"{named} carries messages: there and back in {seconds * 1000:.0f} ms"
    return Finding("ok", "broker", text)


def same_broker(ours: str, infos: Sequence[WorkerInfo]) -> Iterator[Finding]:
    """`ours`: where this side publishes, as in `WorkerInfo.broker`."""
    others = [info for info in infos if elsewhere(info.broker, ours)]
    if others:
        where = ", ".join(sorted({info.broker.partition("|")[2] for info in others}))
        text = (
            f"{len(others)} of {counted(len(infos), 'worker')} would get no message from this"
            f" side: {_names(others)} at {where}"
        )
        fix = "set DCT_BROKER to the same server and database here and on every worker"
        yield Finding("failed", "broker", text, fix)


# -- keys and clocks -------------------------------------------------------------------


def signing_key(settings: Settings, infos: Sequence[WorkerInfo] = ()) -> Iterator[Finding]:
    ours = signing.key_id(settings.own_key)
    fix = "set DCT_SIGNING_KEY_FILE to a file with the same key here and on every worker"
    others = [info for info in infos if info.foreign or ours not in (info.key_id, *info.keys)]
    if others:
        verb = "has" if len(others) == 1 else "have"
        workers = counted(len(infos), "worker")
        text = f"{len(others)} of {workers} {verb} another one: {_names(others)}"
        yield Finding("failed", "signing key", text, fix)
    if not settings.signing_keys:
        text = "is not set: whoever can write to the store can have workers run code"
        make = "dct keygen --out FILE, and DCT_SIGNING_KEY_FILE=FILE here and on every worker"
        yield Finding("warning" if settings.insecure else "failed", "signing key", text, make)
    elif not others:
        text = "is set"
        if len(settings.signing_keys) > 1:
            text += f" ({len(settings.signing_keys)} keys are accepted)"
        if infos:
            text += ", and the same on every worker"
        yield Finding("ok", "signing key", text)


def clocks(
    here: float,
    there: float,
    infos: Sequence[WorkerInfo],
    ask_again: Callable[[], Sequence[WorkerInfo]],
) -> Finding:
    """`here`, `there`: Unix seconds of this machine and the store at the same moment.

    `ask_again` returns the workers one heartbeat later: the time in a registration may be old.
    """
    late = [info for info in infos if info.wall and abs(info.wall - there) > SKEW]
    now = there + BEAT
    found = {info.name: info.wall - now for info in (ask_again() if late else ()) if info.wall}
    skews = {"this machine": here - there, **found}
    if wrong := {who: skew for who, skew in skews.items() if abs(skew) > SKEW}:
        off = ", ".join(
            f"{who} is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
            for who, skew in wrong.items()
        )
        text = f"by the store's clock, {off}; times in reports are wrong, leases are not affected"
        return Finding("warning", "clocks", text, "run an NTP client there")
    known = sum(bool(info.wall) for info in infos)
    text = f"this machine, the store and {counted(known, 'worker')} agree within {SKEW:g} s"
    return Finding("ok", "clocks", text)


# -- workers and machines --------------------------------------------------------------


def workers(
    infos: Sequence[WorkerInfo],
    pool: str,
    facts: Mapping[str, str] | None = None,
    compare: Callable[[WorkerInfo], Sequence[Difference] | None] = lambda info: None,
) -> Iterator[Finding]:
    """`facts`: of the project as it was loaded here (python, django); None where it was not.

    `compare`: what a run would refuse a worker for; None where that is not known.
    """
    if not infos:
        text = f"no worker is connected to pool {pool!r}"
        fix = "start `celery -A dct_celery worker` on a build machine, or use --local"
        yield Finding("warning", "workers", text, fix)
        return
    slots = counted(sum(info.slots for info in infos), "slot")
    text = f"{counted(len(infos), 'worker')} with {slots} in pool {pool!r}"
    yield Finding("ok", "workers", text)
    for info in sorted(infos, key=lambda one: one.name):
        yield _worker(info, facts or {}, compare(info))


def _worker(
    info: WorkerInfo, facts: Mapping[str, str], differs_in: Sequence[Difference] | None
) -> Finding:
    what = f"worker {info.name}"
    slots = counted(info.slots, "slot")
    text = ", ".join([slots, f"dct_celery {info.version}", *versions(info.about)])
    if info.version != __version__ or info.protocol != PROTOCOL_VERSION:
        text += f"; this side is {__version__}"
        return Finding("failed", what, text, "install the same version on both sides")
    if info.backing_off:
        fix = "see its log; it tries again by itself"
        return Finding("warning", what, f"{text}; it {info.backing_off}", fix)
    if differs_in:
        all_of_them = summary(differs_in)
        text += f"; it would refuse this project: {all_of_them.text}"
        return Finding("failed", what, text, all_of_them.fix)
    if differs_in is None and (differs := list(_differences(info.about, facts))):
        text += f"; here it is {' and '.join(differs)}"
        return Finding("warning", what, text, "use the same environment on both sides")
    if low := _few_files(info.about.get("open_files", "")):
        return Finding("warning", what, f"{text}; {low}", _MORE_FILES)
    return Finding("ok", what, text)


def _differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> Iterator[str]:
    """Versions of ours that are another feature release than theirs.

    A worker that runs the project with another interpreter reports no versions of it.
    """
    if "interpreter" in theirs:
        return
    for name, title in VERSIONS:
        pair = [facts.get(name, "") for facts in (theirs, ours)]
        if all(pair) and len({tuple(version.split(".")[:2]) for version in pair}) > 1:
            yield f"{title} {pair[1]}"


def machine(open_files: int, shared: int | None) -> Iterator[Finding]:
    """`shared`: bytes of /dev/shm if the project uses a PostgreSQL of this machine, else None."""
    if low := _few_files(str(open_files)):
        yield Finding("warning", "this machine", low, _MORE_FILES)
    else:
        yield Finding("ok", "this machine", f"{open_files} open files are allowed")
    if shared is not None:
        text = f"/dev/shm has {_megabytes(shared)} for the PostgreSQL of this machine"
        if shared < _SHARED:
            fix = "enlarge it: docker run --shm-size=256m, or shm_size in compose"
            yield Finding("warning", "this machine", text, fix)
        else:
            yield Finding("ok", "this machine", text)


_MORE_FILES = "ulimit -n 4096 before it starts, or LimitNOFILE= in its unit"


def _few_files(limit: str) -> str:
    few = limit.lstrip("-").isdecimal() and 0 <= int(limit) < _FILES
    return f"only {limit} open files are allowed (ulimit -n)" if few else ""


def _names(infos: Sequence[WorkerInfo]) -> str:
    return ", ".join(sorted(info.name for info in infos)[:3]) + (", …" if len(infos) > 3 else "")


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MB" if size < 10 * 2**20 else f"{size / 2**20:,.0f} MB"
