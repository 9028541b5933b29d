"""What `dct doctor` says of everything that is no database: store, broker, keys, clocks, workers,
and this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dct_celery import __version__
from dct_celery.dispatcher.fleet import elsewhere
from dct_celery.inspect.doctor_databases import Finding, counted
from dct_celery.ports import WorkerInfo
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.security import signing
from dct_celery.settings import Settings

#: Seconds by which clocks may differ without a word, and between two beats of a worker with some
#: patience.
SKEW, BEAT = 5.0, 1.5
#: Share of its memory from which on a store is likely to end out of memory within a run.
_FULL = 0.75
#: Least descriptors of a process, and bytes that PostgreSQL's parallel queries want.
_FILES, _SHARED = 1024, 64 * 2**20


# -- store and broker ------------------------------------------------------------------


def store(where: str, info: Mapping[str, Any], warnings: Iterable[str] = ()) -> Iterator[Finding]:
    """Of a store that its adapter has found fit. `info`: what it says of itself; `warnings`: what
    could not be found out.
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
        return Finding(
            "warning",
            "store",
            text,
            "CONFIG SET maxmemory to more: while it is full, runs stand still",
        )
    return Finding("ok", "store", text)


def _persistence(info: Mapping[str, Any]) -> Finding:
    if info.get("rdb_last_bgsave_status", "ok") != "ok" and not int(info["aof_enabled"]):
        text = "its last snapshot to disk failed, so it may refuse writes"
        return Finding(
            "warning",
            "store",
            text,
            'make room on its disk, or CONFIG SET save "" there: nothing of ours has to last',
        )
    kept = "an append-only file" if int(info["aof_enabled"]) else "no append-only file"
    return Finding(
        "ok",
        "store",
        f"persistence: {kept}; after a restart a run is put back from its dispatcher's journal",
    )


def broker(where: str, version: str, seconds: float, *, same: bool) -> Finding:
    """Of a message that went there and came back. `same`: the store is the broker."""
    named = (
        "the store" if same else " ".join(filter(None, [where, version and f"(version {version})"]))
    )
    return Finding(
        "ok", "broker", f"{named} carries messages: there and back in {seconds * 1000:.0f} ms"
    )


def same_broker(ours: str, infos: Sequence[WorkerInfo]) -> Iterator[Finding]:
    """`ours`: where this side publishes, as in `WorkerInfo.broker`."""
    others = [info for info in infos if elsewhere(info.broker, ours)]
    if others:
        where = ", ".join(sorted({info.broker.partition("|")[2] for info in others}))
        text = (
            f"{len(others)} of {counted(len(infos), 'worker')} would hear nothing from this side:"
            f" {_names(others)} at {where}"
        )
        yield Finding(
            "failed",
            "broker",
            text,
            "set DCT_BROKER to the same server and database here and on every worker",
        )


# -- keys and clocks -------------------------------------------------------------------


def signing_key(settings: Settings, infos: Sequence[WorkerInfo] = ()) -> Iterator[Finding]:
    ours = signing.key_id(settings.own_key)
    fix = "set DCT_SIGNING_KEY_FILE to a file with the same key here and on every worker"
    others = [info for info in infos if info.foreign or ours not in (info.key_id, *info.keys)]
    if others:
        verb = "has" if len(others) == 1 else "have"
        text = (
            f"{len(others)} of {counted(len(infos), 'worker')} {verb} another one: {_names(others)}"
        )
        yield Finding("failed", "signing key", text, fix)
    if not settings.signing_keys:
        text = "is not set: whoever can write to the store can have workers run code"
        make = "dct keygen --out FILE, and DCT_SIGNING_KEY_FILE=FILE here and on every worker"
        yield Finding("warning" if settings.insecure else "failed", "signing key", text, make)
    elif not others:
        many = (
            f" ({len(settings.signing_keys)} keys are accepted)"
            if len(settings.signing_keys) > 1
            else ""
        )
        yield Finding(
            "ok",
            "signing key",
            f"is set{many}" + (", and the same on every worker" if infos else ""),
        )


def clocks(
    here: float,
    there: float,
    infos: Sequence[WorkerInfo],
    look_again: Callable[[], Sequence[WorkerInfo]],
) -> Finding:
    """`here`, `there`: Unix seconds of this machine and the store at the same moment. `look_again`
    returns what workers say a beat later: what stands in the store may be that old.
    """
    late = [info for info in infos if info.wall and abs(info.wall - there) > SKEW]
    now = there + BEAT
    found = {info.name: info.wall - now for info in (look_again() if late else ()) if info.wall}
    skews = {"this machine": here - there, **found}
    if wrong := {who: skew for who, skew in skews.items() if abs(skew) > SKEW}:
        said = ", ".join(
            f"{who} is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
            for who, skew in wrong.items()
        )
        text = f"by the store's clock, {said}; leases do not mind, times in reports do"
        return Finding("warning", "clocks", text, "run an NTP client there")
    told = sum(bool(info.wall) for info in infos)
    return Finding(
        "ok",
        "clocks",
        f"this machine, the store and {counted(told, 'worker')} agree within {SKEW:g} s",
    )


# -- workers and machines --------------------------------------------------------------


def workers(
    infos: Sequence[WorkerInfo], pool: str, facts: Mapping[str, str] | None = None
) -> Iterator[Finding]:
    """`facts`: of the project as it was loaded here (python, django); None where it was not."""
    if not infos:
        text = f"no worker is connected to pool {pool!r}"
        yield Finding(
            "warning",
            "workers",
            text,
            "start `celery -A dct_celery worker` on a build machine, or use --local",
        )
        return
    slots = sum(info.slots for info in infos)
    yield Finding(
        "ok",
        "workers",
        f"{counted(len(infos), 'worker')} with {counted(slots, 'slot')} in pool {pool!r}",
    )
    for info in sorted(infos, key=lambda one: one.name):
        yield _worker(info, facts or {})


def _worker(info: WorkerInfo, facts: Mapping[str, str]) -> Finding:
    what = f"worker {info.name}"
    said = [counted(info.slots, "slot"), f"dct_celery {info.version}"]
    said += [
        f"{word} {info.about[name]}"
        for name, word in (("python", "Python"), ("django", "Django"))
        if name in info.about
    ]
    text = ", ".join(said)
    if info.version != __version__ or info.protocol != PROTOCOL_VERSION:
        return Finding(
            "failed",
            what,
            f"{text}; this side is {__version__}",
            "install the same version on both sides",
        )
    if info.trouble:
        return Finding(
            "warning", what, f"{text}; it {info.trouble}", "see its log; it tries again by itself"
        )
    if differs := list(_differences(info.about, facts)):
        return Finding(
            "warning",
            what,
            f"{text}; here it is {' and '.join(differs)}",
            "use the same environment on both sides",
        )
    if low := _few_files(info.about.get("open_files", "")):
        return Finding("warning", what, f"{text}; {low}", _MORE_FILES)
    return Finding("ok", what, text)


def _differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> Iterator[str]:
    """By feature release; a worker with an interpreter for the project of its own says only what
    that one is called.
    """
    if "interpreter" in theirs:
        return
    for name, word in (("python", "Python"), ("django", "Django")):
        pair = [facts.get(name, "") for facts in (theirs, ours)]
        if all(pair) and len({tuple(version.split(".")[:2]) for version in pair}) > 1:
            yield f"{word} {pair[1]}"


def machine(open_files: int, shared: int | None) -> Iterator[Finding]:
    """Of this machine. `shared`: bytes of /dev/shm where a PostgreSQL of this machine is used, else
    None.
    """
    if low := _few_files(str(open_files)):
        yield Finding("warning", "this machine", low, _MORE_FILES)
    else:
        yield Finding("ok", "this machine", f"{open_files} open files are allowed")
    if shared is not None:
        text = f"/dev/shm has {_megabytes(shared)} for the PostgreSQL of this machine"
        if shared < _SHARED:
            yield Finding(
                "warning",
                "this machine",
                text,
                "enlarge it: docker run --shm-size=256m, or shm_size in compose",
            )
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
