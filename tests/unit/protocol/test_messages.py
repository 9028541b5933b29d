"""Claims about `protocol`: every message comes back as sent, through its own door alone."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dct_celery.core import codec
from dct_celery.core.codec import MAX_INT
from dct_celery.core.ids import CHUNK_ID
from dct_celery.core.metrics import MEASURED
from dct_celery.core.model import (
    Artifact,
    Chunk,
    Entry,
    Failure,
    FixturePhase,
    FixtureRef,
    FixtureScope,
    Need,
    Outcome,
    Phase,
)  # fmt: skip
from dct_celery.core.run import events as ev
from dct_celery.core.run.leaks import LeakKind, LeakRecord
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.records import PASSED, PASSED_MEASURED, FixtureRecord, TestRecord
from dct_celery.errors import Untrusted
from dct_celery.protocol import door as doors
from dct_celery.protocol import runs, stream, workers
from dct_celery.protocol.door import Rejects, parse, peek
from dct_celery.protocol.stream import Page, Rejected, Reported
from tests.support import streams
from tests.support.factories import KEY_ID, NONCE, OTHER_KEY, held, make_spec, pool_door, run_door

DOOR = run_door()
# A pair of surrogates is one character in JSON; alone they stay what they are.
TEXT = st.text(max_size=8) | st.sampled_from(["\udcff", "\x00\x1b[31m", "é\n"])
COUNT, SECONDS = st.integers(0, MAX_INT), st.floats(0, 1e12)
REF = st.builds(FixtureRef, st.sampled_from(FixturePhase), st.sampled_from(FixtureScope), TEXT)
FAILURES = st.lists(
    st.builds(
        Failure, TEXT, TEXT, TEXT, TEXT, TEXT, st.none() | TEXT, st.none() | st.integers(-9, 9)
    ),
    max_size=2,
).map(tuple)
TESTS = st.builds(
    TestRecord,
    COUNT,
    st.sampled_from(Outcome),
    SECONDS,
    FAILURES,
    TEXT,
    TEXT,
    TEXT,
    st.none() | REF,
)
FIXTURES = st.builds(FixtureRecord, REF, st.sampled_from(Outcome), FAILURES, TEXT, TEXT)
CHUNKS = st.builds(
    Chunk, TEXT, st.lists(COUNT, max_size=3).map(tuple), st.sampled_from(Phase),
    st.sampled_from(Need), st.integers(1, 9), avoid_worker=TEXT, fresh_process=st.booleans(),
    limits=st.lists(st.tuples(COUNT, SECONDS), max_size=2).map(tuple),
    locks=st.lists(TEXT, max_size=2).map(tuple), estimate=SECONDS,
)  # fmt: skip
FILES = st.builds(
    Artifact,
    st.just("coverage"),
    st.integers(1, 10**9),
    st.from_regex(r"[0-9a-f]{40}", fullmatch=True),
)
NUMBERS = st.dictionaries(TEXT, st.floats(-1e9, 1e9), max_size=2)
LEAKS = st.lists(
    st.builds(
        LeakRecord, st.sampled_from(LeakKind), TEXT, TEXT, st.none() | COUNT, st.none() | COUNT
    ),
    max_size=2,
)
COMPLETED = st.builds(
    ev.ChunkCompleted, SECONDS, st.dictionaries(TEXT, SECONDS, max_size=2),
    st.lists(COUNT, max_size=2).map(tuple), st.sampled_from(["", "failfast", "aborted"]),
    LEAKS.map(tuple), NUMBERS, COUNT, st.booleans(), st.none() | FILES,
)  # fmt: skip
RELEASED = st.builds(
    ev.ChunkReleased,
    st.sampled_from(ev.ReleaseReason),
    TEXT,
    TEXT,
    st.none() | COUNT,
    st.none() | REF,
    SECONDS,
    NUMBERS,
    COUNT,
    st.none() | FILES,
)
LEASES = st.builds(
    LeaseRef,
    TEXT,
    st.integers(1, 999),
    st.integers(0, 10**12),
    TEXT,
    st.integers(0, 99),
    st.integers(1, 999),
)
TEXTS = st.lists(TEXT, max_size=2).map(tuple)
WORDS = st.dictionaries(TEXT, TEXT, max_size=2)
RULES = st.builds(
    runs.DatabaseRules,
    st.booleans(),
    st.sampled_from(["auto", "always", "never"]),
    allow=st.just(("a",)),
)
SPECS = st.builds(
    make_spec,
    st.from_regex(r"[a-z0-9][a-z0-9-]{5,25}", fullmatch=True),
    command=TEXTS,
    arguments=TEXTS,
    directory=TEXT,
    environment=WORDS,
    test_timeout=st.none() | SECONDS,
    databases=RULES,
)
WORKERS = st.builds(
    workers.WorkerInfo, TEXT, TEXT, COUNT, TEXT, COUNT, TEXT, st.lists(TEXT, max_size=2).map(tuple),
    st.dictionaries(TEXT, st.sampled_from(workers.RunStage), max_size=2), about=WORDS,
    expires_ms=COUNT,
)  # fmt: skip
REPORTS: list[st.SearchStrategy[Any]] = [
    st.builds(
        workers.ReadyReport,
        TEXT,
        SECONDS,
        TEXT,
        st.booleans(),
        st.dictionaries(TEXT, SECONDS, max_size=2),
    ),
    st.builds(workers.CheckedReport),
    st.builds(workers.UsageReport, NUMBERS),
    st.builds(workers.MeasuredReport, st.lists(FILES, max_size=2).map(tuple), COUNT),
    st.builds(workers.ShortReport, TEXT),
    st.builds(workers.RefusedReport, TEXT, TEXT, st.booleans()),
    st.builds(workers.FailedReport, TEXT, TEXT),
]
MESSAGES: dict[type, st.SearchStrategy[Any]] = {
    Chunk: CHUNKS,
    Entry: st.builds(
        Entry,
        COUNT,
        TEXT,
        TEXT,
        TEXT,
        st.sampled_from(Phase),
        st.none() | TEXT,
        st.none() | COUNT,
        keep_with=TEXTS,
        locks=TEXTS,
        label=TEXT,
    ),
    TestRecord: TESTS,
    FixtureRecord: FIXTURES,
    LeaseRef: LEASES,
    ev.ChunkCompleted: COMPLETED,
    ev.ChunkReleased: RELEASED,
    runs.RunSpec: SPECS,
    runs.ManifestSummary: st.builds(runs.ManifestSummary, st.just("ab" * 32), COUNT, WORDS),
    runs.Announcement: st.builds(
        runs.Announcement, st.just("run-one"), st.just(NONCE), st.integers(1, 99), COUNT
    ),
    runs.CancelOrder: st.builds(runs.CancelOrder, TEXT),
    runs.Ownership: st.builds(runs.Ownership, st.just("a" * 16)),
    runs.ChunkHint: st.builds(
        runs.ChunkHint,
        st.just("run-one"),
        st.from_regex(CHUNK_ID, fullmatch=True),
        st.integers(1, 9),
    ),
    workers.WorkerInfo: WORKERS,
    workers.MachineEnvironment: st.builds(workers.MachineEnvironment, WORDS, WORDS),
}
ALL = st.sampled_from(sorted(MESSAGES, key=lambda cls: cls.__name__)).flatmap(
    lambda cls: st.tuples(st.just(cls), MESSAGES[cls])
)
SOON = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
def test_every_message_comes_back_as_it_was_sent(cls: type) -> None:
    @SOON
    @given(MESSAGES[cls])
    def holds(message: Any) -> None:
        text = DOOR.seal(message, "bound", 1)
        assert text.isascii()
        assert "\n" not in text
        assert DOOR.unseal(cls, text, "bound", 1) == message
        assert peek(cls, text) == message

    holds()


@SOON
@given(LEASES, st.integers(1, 10**9), st.lists(TESTS | FIXTURES, min_size=1, max_size=3))
def test_records_come_back_as_they_were_sent(lease: LeaseRef, seq: int, records: list[Any]) -> None:
    # When
    found = stream.read_entry(DOOR, "1-0", streams.recorded(DOOR, lease, seq, *records))
    # Then
    assert found.fact == ev.Recorded(lease, seq, tuple(records))
    assert (found.epoch, found.position) == (lease.epoch, (lease.key, seq))


@SOON
@given(LEASES, st.integers(0, 10**9), COMPLETED | RELEASED)
def test_ends_come_back_as_they_were_sent(lease: LeaseRef, seq: int, end: ev.ChunkEnd) -> None:
    # When
    found = stream.read_entry(DOOR, "1-0", streams.ended(DOOR, lease, seq, end))
    # Then
    assert found.fact == ev.Ended(lease, seq, end)
    assert found.position == (lease.key, seq + 1)


@SOON
@given(st.one_of(REPORTS), TEXT, st.integers(1, 99))
def test_reports_come_back_as_they_were_sent(report: Any, worker: str, epoch: int) -> None:
    # When
    found = stream.read_entry(DOOR, "1-0", streams.reported(DOOR, worker, report, epoch))
    # Then
    assert (found.fact, found.epoch, found.position) == (Reported(worker, report), epoch, None)


@SOON
@given(CHUNKS, LEASES)
def test_messages_of_the_store_come_back_as_they_were(chunk: Chunk, lease: LeaseRef) -> None:
    for fields_, fact in [
        (streams.offered(DOOR, chunk, 3), ev.Offered(chunk)),
        (streams.claimed(lease, 77), ev.Claimed(lease, 77)),
        (streams.expired(lease), ev.Expired(lease)),
        ({**streams.expired(lease), "k": "avoided"}, ev.Avoided(lease)),
    ]:
        assert stream.read_entry(DOOR, "1-0", fields_).fact == fact


# -- what is not believed --------------------------------------------------------------


@SOON
@given(ALL, st.data())
def test_a_message_of_one_kind_does_not_pass_for_another(
    sent: tuple[type, Any], data: st.DataObject
) -> None:
    # Given
    cls, message = sent
    other = data.draw(st.sampled_from([one for one in MESSAGES if one is not cls]))
    # Then
    with pytest.raises(Untrusted, match="has a wrong signature"):
        DOOR.unseal(other, DOOR.seal(message))


@SOON
@given(ALL)
def test_a_message_does_not_pass_through_another_door(sent: tuple[type, Any]) -> None:
    # Given
    cls, message = sent
    text = DOOR.seal(message, 1)
    # Then
    others = [
        run_door("run-two"),
        run_door(nonce="f" * 16),
        run_door(pool="other"),
        run_door("run-one", OTHER_KEY),
        pool_door(),
    ]
    for other in others:
        with pytest.raises(Untrusted):
            other.unseal(cls, text, 1)
    others_bound: list[tuple[str | int, ...]] = [(), (2,), (1, 1), ("1",)]
    for bound in others_bound:
        with pytest.raises(Untrusted, match="has a wrong signature"):
            DOOR.unseal(cls, text, *bound)


FIELD = st.dictionaries(
    st.sampled_from("keacfwsqd") | st.text(max_size=2),
    st.sampled_from(
        [
            "",
            "0",
            "1",
            "-1",
            "9" * 15,
            "9" * 16,
            "١",
            "1.0",
            "{}",
            "[]",
            "dct4...",
            *stream.EntryKind,
        ]
    )
    | st.text(),
    max_size=10,
)


@given(FIELD)
def test_any_fields_are_an_entry_or_rejected(fields_: dict[str, str]) -> None:
    # When
    page = stream.read_page(DOOR, [("7-0", fields_)])
    # Then
    assert page.last == "7-0"
    assert len(page.entries) + len(page.rejected) == 1
    for one in page.entries:
        # Only what the store itself says needs no signature.
        assert isinstance(one.fact, (ev.Claimed, ev.Expired, ev.Avoided))
    for rejected in page.rejected:
        assert str(rejected.error).isascii()
        assert len(str(rejected.error)) < 300


@SOON
@given(st.data(), LEASES, st.lists(TESTS, min_size=1, max_size=2))
def test_records_of_which_any_field_was_changed_are_rejected(
    data: st.DataObject, lease: LeaseRef, records: list[Any]
) -> None:
    # Given
    fields_ = streams.recorded(DOOR, lease, 5, *records)
    name = data.draw(st.sampled_from(sorted(fields_)))
    value = data.draw(
        (st.integers(0, 999).map(str) | st.text()).filter(lambda one: one != fields_[name])
    )
    try:
        changed = stream.read_entry(DOOR, "1-0", {**fields_, name: value})
    except Untrusted:
        return
    # Then: the kinds that need no signature give no verdict
    assert name == "k" or changed.fact == ev.Recorded(lease, 5, tuple(records)), (
        "a number with noughts before it is the same"
    )
    assert not isinstance(changed.fact, ev.Ended)


USED = st.just("") | st.from_regex(MEASURED, fullmatch=True) | st.text("-,0123456789", max_size=40)
PASSES = st.lists(
    st.tuples(st.integers(0, 10**16), st.floats(0, 1e12), USED), min_size=1, max_size=4
)


@given(PASSES)
def test_plain_passes_are_the_same_records_on_the_fast_path(
    passes: list[tuple[int, float, str]],
) -> None:
    # Given: what a test process sends, and the same with a space, which nothing in haste
    # understands
    forms = (PASSED_MEASURED % each if each[2] else PASSED % each[:2] for each in passes)
    quick = f"[{','.join(forms)}]"
    slow = quick.replace("{", "{ ")

    def read(text: str) -> object:
        try:
            return stream.parse_records(text)
        except Untrusted as error:
            return str(error)

    # Then
    assert read(quick) == read(slow)


@pytest.mark.parametrize("spoil", ["]", ",", "\ud800", "{}", "[", "0"])
def test_plain_passes_with_anything_behind_them_are_rejected(spoil: str) -> None:
    record = PASSED % (1, 0.5)
    for text in (f"[{record}]{spoil}", f"[{record}{spoil}]"):
        with pytest.raises(Untrusted):
            stream.parse_records(text)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(["TestFinished", "FixtureFinished", "passed", "setUpClass (a.T)"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["kind", *(one.name for one in fields(TestRecord))]), inner, max_size=8
    ),
    max_leaves=15,
))  # fmt: skip
def test_signed_nonsense_is_records_or_rejected(value: Any) -> None:
    """Nothing that a worker with the key says ends a dispatcher (I12)."""
    lease = held(1)
    sealed = stream.records(DOOR, lease, 1, codec.dumps(value))
    page = stream.read_page(
        DOOR, [("1-0", {**streams.claimed(lease), "k": "records", "q": "1", "d": sealed})]
    )
    for one in page.rejected:
        assert str(one.error).startswith("is malformed: ")
    for entry in page.entries:
        assert isinstance(entry.fact, ev.Recorded)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "NaN",
        "1e999",
        "[]",
        "{}",
        "[null]",
        "[[]]",
        '[{"kind":[]}]',
        '[{"kind":"moonbeam"}]',
    ],
)
def test_records_that_are_none_are_rejected_in_one_line(text: str) -> None:
    # Given
    fields_ = {
        **streams.claimed(held(1)),
        "k": "records",
        "q": "1",
        "d": stream.records(DOOR, held(1), 1, text),
    }
    # Then
    with pytest.raises(Untrusted, match=r"^is malformed: ") as caught:
        stream.read_entry(DOOR, "1-0", fields_)
    assert len(str(caught.value)) < 200


def test_a_text_that_is_too_long_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr(doors, "MAX_TEXT", 100)
    text = DOOR.seal(runs.CancelOrder("x" * 100))
    # Then
    with pytest.raises(Untrusted, match=r"is too long: \d+ characters"):
        DOOR.unseal(runs.CancelOrder, text)
    with pytest.raises(Untrusted, match="is too long"):
        peek(runs.CancelOrder, text)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"run": "../../etc"}, "run: must match"),
        ({"run": "run-one\n"}, "run: must match"),
        ({"nonce": "0"}, "nonce: must match"),
        ({"tree": "../x"}, "tree: must match"),
        ({"code": "shell"}, "code: must be one of snapshot, checkout"),
        ({"hash_seed": "0; rm"}, "hash_seed: must match"),
        ({"directory": "x" * 5000}, "directory: must not be longer than 4096"),
        ({"arguments": "--all"}, "arguments: must be a list"),
        ({"backend": "os.system"}, "backend: must match"),
        ({"environment": {"A": 1}}, "environment: must be text"),
        ({"expires_ms": -1}, "expires_ms: must be at least 0"),
        ({"test_timeout": -1}, "test_timeout: must be at least 0"),
        ({"databases": {"keep": "ever"}}, "databases: keep: must be one of"),
        ({"more": 1}, "RunSpec has no field 'more'"),
    ],
)
def test_what_becomes_a_path_a_key_or_a_command_has_passed_its_rule(
    message: dict[str, Any], said: str
) -> None:
    with pytest.raises(Untrusted) as caught:
        parse(runs.RunSpec, codec.dumps({**codec.encode(make_spec()), **message}))
    assert str(caught.value).startswith(f"is malformed: {said}")


# -- what was ignored --------------------------------------------------------------


def test_each_fault_is_reported_once_for_each_place_and_counted() -> None:
    # Given
    rejects = Rejects()
    # When
    reasons = ["is not signed", "is malformed: a", "is malformed: b"]
    lines = [rejects.note(where, Untrusted(why)) for where in ("here", "there") for why in reasons]
    # Then
    assert [line for line in lines if line] == [
        "here: an entry is not signed; it is ignored",
        "here: an entry is malformed: a; it is ignored",
        "there: an entry is not signed; it is ignored",
        "there: an entry is malformed: a; it is ignored",
    ]
    assert rejects.total == 6
    assert list(rejects.summary()) == [
        "here: 2 entries were ignored, each of which is malformed",
        "there: 2 entries were ignored, each of which is malformed",
    ]


def test_a_flood_of_different_garbage_does_not_fill_the_memory() -> None:
    # Given
    rejects = Rejects()
    # When
    for number in range(10_000):
        rejects.note("stream", Untrusted(f"is malformed: field {number}"))
    # Then
    assert (len(rejects.counts), rejects.total) == (1, 10_000)


def test_the_length_of_what_is_too_long_makes_no_kind_of_its_own() -> None:
    # Given
    rejects = Rejects()
    # When
    for number in range(5):
        rejects.note("stream", Untrusted(f"is too long: {number} characters"))
    # Then
    assert len(rejects.counts) == 1


def test_an_own_offer_is_recognized_without_parsing_and_only_in_its_epoch() -> None:
    # Given an offer of ours, on its way back
    chunk = Chunk("c1", (0,), Phase.ISOLATED, Need.PRISTINE)
    fields_ = streams.offered(DOOR, chunk, 3)
    own = {(3, fields_["d"]): chunk}
    # When
    (moved,) = stream.read_page(DOOR, [("1-0", {**fields_, "e": "4"})], own).rejected
    (entry,) = stream.read_page(DOOR, [("2-0", fields_)], own).entries
    # Then
    assert str(moved.error) == "has a wrong signature"
    assert entry.fact == ev.Offered(chunk)
    assert entry.fact.chunk is chunk
    assert own == {}


def test_a_page_without_rows_has_no_last_id() -> None:
    assert stream.read_page(DOOR, []) == Page()
    page = stream.read_page(DOOR, [("1-0", streams.claimed(held(1))), ("2-0", {})])
    assert (len(page.entries), page.last) == (1, "2-0")
    assert isinstance(page.rejected[0], Rejected)


def test_a_door_of_a_run_prefers_the_key_that_the_run_was_begun_with() -> None:
    # Given
    both = pool_door(OTHER_KEY, pool_door().keyring.keys[0])
    # Then
    assert both.of_run("run-one", NONCE, KEY_ID).keyring.ids[0] == KEY_ID
    assert both.of_run("run-one", NONCE).keyring == both.keyring
