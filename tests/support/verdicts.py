"""Random reports for Hypothesis: any text in any field, each outcome, fixtures, reruns."""

from __future__ import annotations

from hypothesis import strategies as st

from dct_celery.core import metrics
from dct_celery.core.model import (
    Artifact,
    Entry,
    Failure,
    FixturePhase,
    FixtureRef,
    FixtureScope,
    FixtureVerdict,
    OrderKind,
    OrderNote,
    Outcome,
    Phase,
    RunReport,
    Verdict,
)

TEXT = st.text(
    st.characters() | st.sampled_from("\x00\x1b[]m\r\n\t\x85 ()"), max_size=12
) | st.sampled_from(["a", "a.T"])
MAYBE = st.none() | TEXT
#: Some of them longer than the narrowest limits of a JUnit document, before or after they are
#: cleaned.
LONG = TEXT | st.builds(
    str.__add__, TEXT, st.sampled_from(["x" * 1500, "\x00" * 300, "\x1b[1m" * 300])
)
SECONDS = st.floats() | st.floats(0, 100)
FAILURES = st.lists(
    st.builds(
        Failure,
        st.sampled_from(["failure", "error"]),
        TEXT,
        TEXT,
        LONG,
        TEXT,
        MAYBE,
        st.none() | st.integers(),
    ),
    max_size=3,
).map(tuple)
REFS = st.builds(
    FixtureRef,
    st.sampled_from(FixturePhase),
    st.sampled_from(FixtureScope),
    st.sampled_from(["a", "a.T"]) | TEXT,
)
ENTRIES = st.builds(
    Entry,
    st.integers(0, 5),
    TEXT,
    TEXT,
    TEXT,
    st.sampled_from(Phase),
    MAYBE,
    st.none() | st.integers(),
    tags=st.tuples(TEXT),
)
ORDERS = st.none() | st.builds(
    OrderNote, st.sampled_from(OrderKind), TEXT, TEXT, st.booleans(), TEXT
)
EARLIER = st.builds(
    Verdict,
    ENTRIES,
    st.sampled_from([Outcome.FAILED, Outcome.ERROR]),
    failures=FAILURES,
    reason=TEXT,
    output=TEXT,
)
VERDICTS = st.builds(
    Verdict,
    ENTRIES,
    st.sampled_from(Outcome),
    SECONDS,
    MAYBE,
    st.none() | st.integers(0, 3),
    st.integers(1, 3),
    FAILURES,
    reason=LONG,
    output=TEXT,
    sql=TEXT,
    covered_by=st.none() | REFS,
    earlier=st.lists(EARLIER, max_size=2).map(tuple),
    artifacts=st.just(()) | st.just((Artifact("output.txt", 3, "ab" * 20),)),
    order=ORDERS,
    measured=st.just("") | st.from_regex(metrics.MEASURED, fullmatch=True),
)
#: With hardly anything to say, as most verdicts of a run.
PLAIN = st.builds(
    Verdict,
    ENTRIES,
    st.sampled_from(Outcome),
    SECONDS,
    MAYBE,
    st.none() | st.integers(0, 3),
    st.integers(1, 3),
    reason=LONG,
    order=ORDERS,
)
MEASURED = st.just("") | st.from_regex(metrics.MEASURED, fullmatch=True)
PASSES = st.builds(
    Verdict,
    ENTRIES,
    st.just(Outcome.PASSED),
    SECONDS,
    MAYBE,
    st.none() | st.integers(0, 3),
    st.integers(1, 3),
    measured=MEASURED,
)
FIXTURES = st.builds(
    FixtureVerdict,
    REFS,
    st.sampled_from(Outcome),
    MAYBE,
    failures=FAILURES,
    reason=TEXT,
    covers=st.lists(st.integers(-2, 6), max_size=3).map(tuple),
    order=ORDERS,
)
REPORTS = st.builds(
    RunReport,
    TEXT,
    st.lists(VERDICTS | PLAIN | PASSES, max_size=4).map(tuple),
    st.lists(FIXTURES, max_size=2).map(tuple),
    st.sampled_from([0, 1, 2, 3, 5, 7]),
    st.dictionaries(st.just("wall"), SECONDS),
    started_at=SECONDS,
    hosts=st.dictionaries(TEXT, TEXT, max_size=2),
    note=TEXT,
    properties=st.dictionaries(TEXT, TEXT, max_size=2),
    complete=st.booleans(),
)
