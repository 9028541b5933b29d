"""Entries, manifests and atoms for tests, with defaults for what a test does not need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from dct_celery.core.model import Entry, Manifest, Need, Phase
from dct_celery.core.plan import timings
from dct_celery.core.plan.planner import Atom
from dct_celery.core.plan.timings import Estimates, Sample
from dct_celery.core.run.leases import LeaseRef
from dct_celery.dispatcher.collect import Collected
from dct_celery.dispatcher.request import Request
from dct_celery.dispatcher.run_snapshot import RunSnapshot
from dct_celery.ports import Ledger
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.protocol.door import Door
from dct_celery.protocol.runs import RunSpec
from dct_celery.security.signing import Keyring, key_id
from dct_celery.settings import Settings
from dct_celery.wire import messages

#: The key of the pool in tests, its id, and another one that is as good.
KEY, OTHER_KEY = "the-pool-of-the-tests-has-this-key", "another-pool-has-this-other-key-instead"
KEY_ID = key_id(KEY)
NONCE = "0123456789abcdef"
REQUEST = Request(
    "django",
    ("manage.py", "test", "--settings=site.settings"),
    ("--verbosity=2",),
    "site.settings",
    "/src",
    ".",
    (".",),
    {"TZ": "UTC"},
    "7",
    None,
)
#: Long after everything that happens on the clocks of tests.
LATER_MS = 9_000_000_000_000


def make_entry(
    index: int = 0,
    cls: str = "app.tests.Case",
    phase: Phase = Phase.ISOLATED,
    *,
    name: str | None = None,
    **fields: Any,
) -> Entry:
    """An entry with id `cls.name`.

    `name` defaults to `test_<index>`, `module` to all of `cls` before its last dot.
    """
    fields.setdefault("id", f"{cls}.{name or f'test_{index}'}")
    fields.setdefault("module", cls.rpartition(".")[0])
    fields.setdefault(
        "keep_with", ("load_failed",) if phase is Phase.LOAD_FAILED else (f"class:{cls}",)
    )
    if phase is Phase.TRANSACTIONAL:
        fields.setdefault("databases", ("default",))
        fields.setdefault("flushes", True)
    return Entry(index=index, cls=cls, phase=phase, **fields)


def held(
    fence: int,
    *,
    chunk: str = "c1",
    attempt: int = 1,
    epoch: int = 1,
    worker: str = "build-a",
    slot: int = 1,
) -> LeaseRef:
    """A lease."""
    return LeaseRef(chunk, attempt, fence, worker, slot, epoch)


def pool_door(*keys: str, pool: str = "pool") -> Door:
    """Of a pool that has these keys; the usual one where none is given."""
    return Door.of_pool(Keyring(keys or (KEY,)), pool)


def run_door(run: str = "run-one", *keys: str, pool: str = "pool", nonce: str = NONCE) -> Door:
    return pool_door(*keys, pool=pool).of_run(run, nonce)


def make_spec(run: str = "run-one", **fields: Any) -> RunSpec:
    usual: dict[str, Any] = {
        "nonce": NONCE,
        "protocol": PROTOCOL_VERSION,
        "version": "0",
        "expires_ms": LATER_MS,
        "tree": "ab" * 20,
        "code": "snapshot",
        "backend": "django",
        "command": (),
        "arguments": (),
        "directory": ".",
        "sys_path": (),
        "environment": {},
        "hash_seed": "0",
    }
    return RunSpec(run=run, **{**usual, **fields})


def fences(ledger: Ledger, chunks: Sequence[str]) -> list[int | None]:
    """What the store has of each of them, see `ports.Survey`."""
    return list(ledger.survey(make_spec(), None, chunks).fences.values())


def make_head(
    manifest: Manifest | None = None, run: str = "run-one", settings: Settings | None = None
) -> RunSnapshot:
    """Of a run of these tests."""
    manifest = manifest or make_manifest(group("app.tests.A"))
    secret: dict[str, Any] = {"password": "s3cret"}
    loaded = messages.Loaded(
        len(manifest), manifest.digest, 0.1, {"python": "3.11"}, [secret], facts={"django": "5.2"}
    )
    collected = Collected(manifest, loaded)
    spec = make_spec(run, environment=dict(REQUEST.environment))
    return RunSnapshot.of(spec, 5.0, REQUEST, settings or Settings(), collected, run_door(run))


@dataclass(frozen=True)
class Group:
    """`count` tests of one class; `fields` go to every entry as they are."""

    cls: str
    phase: Phase = Phase.ISOLATED
    count: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict)


def group(cls: str, phase: Phase = Phase.ISOLATED, count: int = 1, **fields: Any) -> Group:
    """Shorthand: `group("app.tests.Live", Phase.TRANSACTIONAL, 3, locks=("port:8081",))`."""
    return Group(cls, phase, count, fields)


def make_manifest(*groups: Group) -> Manifest:
    """The groups in the given order, with indices counted through."""
    entries: list[Entry] = []
    for each in groups:
        for number in range(each.count):
            fields = {"name": f"test_{number}", **each.fields}
            entries.append(make_entry(len(entries), each.cls, each.phase, **fields))
    return Manifest(tuple(entries))


def make_atom(
    first: int,
    estimate: float,
    phase: Phase = Phase.ISOLATED,
    *,
    need: Need = Need.PRISTINE,
    locks: tuple[str, ...] = (),
) -> Atom:
    """An atom of one index."""
    return Atom((first,), phase, need, estimate, locks)


def make_samples(manifest: Manifest, seconds: Iterable[float | None]) -> dict[str, Sample]:
    """Stored samples that give every entry its seconds; None is a test never timed."""
    timed = zip(manifest, seconds, strict=True)
    return {timings.test_key(entry): Sample(each, 1) for entry, each in timed if each is not None}


_CLASSES = st.sampled_from(
    [f"{module}.{name}" for module in ("a.tests", "b.tests", "c.tests") for name in "TUVW"]
)


_MODULES = st.sets(st.sampled_from(["a.tests", "b.tests", "c.tests"]))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Any manifest: classes may be torn, names shared, locks and ports on single tests only."""
    with_fixtures = draw(_MODULES)
    drawn = draw(
        st.lists(
            st.tuples(
                _CLASSES,
                st.sampled_from(Phase),
                st.sampled_from([None, None, None, "one.lock", "two.lock"]),
                st.sampled_from([None, None, None, 8081]),
            ),
            max_size=60,
        )
    )
    return Manifest(
        tuple(
            tied_entry(index, cls, phase, lock=lock, port=port, fixtures=with_fixtures)
            for index, (cls, phase, lock, port) in enumerate(drawn)
        )
    )


def tied_entry(
    index: int, cls: str, phase: Phase, *, lock: str | None, port: int | None, fixtures: Set[str]
) -> Entry:
    """Groups and locks named as by the Django backend. `fixtures`: modules that have some."""
    module = cls.rpartition(".")[0]
    names = [f"class:{cls}"]
    names += [f"module:{module}"] if module in fixtures else []
    names += [f"file:{lock}"] if lock else []
    locks = [f"file:{lock}"] if lock else []
    locks += [f"port:{port}"] if port else []
    keep_with = ("load_failed",) if phase is Phase.LOAD_FAILED else tuple(names)
    return make_entry(index, cls, phase, keep_with=keep_with, locks=tuple(locks))


@st.composite
def suites(draw: st.DrawFn) -> tuple[Manifest, Estimates]:
    """Any manifest, with any part of its tests timed."""
    manifest = draw(manifests())
    times = st.one_of(st.none(), st.just(0.0), st.floats(0.001, 100.0))
    seconds = draw(st.lists(times, min_size=len(manifest), max_size=len(manifest)))
    return manifest, Estimates(make_samples(manifest, seconds), manifest)
