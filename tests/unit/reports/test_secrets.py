"""Claims about secrets in what a run shows: none in terminal, JUnit or JSON, whatever test or
worker said it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dct_celery.core.model import (
    Entry,
    Failure,
    FixtureRef,
    FixtureVerdict,
    Outcome,
    Phase,
    RunReport,
    Verdict,
)
from dct_celery.core.run.leaks import Leak, LeakKind
from dct_celery.reports import masked
from dct_celery.reports.files import write_json, write_junit
from dct_celery.security import masking
from tests.unit.reports.scene import Scene

SECRET = "correct<horse>&'battery\""


@pytest.fixture(autouse=True)
def _known() -> None:
    masking.PROCESS.learn([SECRET])


def report(text: str) -> RunReport:
    entry = Entry(0, f"app.T.test_[{text}]", "app.T", "app", Phase.ISOLATED)
    failure = Failure("error", "OSError", text, f"Traceback\n{text}", subtest=text)
    first = Verdict(entry, Outcome.FAILED, 0.1, "w", 0, 1, (failure,), text, text, text)
    v = Verdict(
        entry, Outcome.ERROR, 0.1, "w", 0, 2, (failure, failure), text, text, text, earlier=(first,)
    )
    f = FixtureVerdict(
        FixtureRef.parse(f"setUpClass ({entry.cls})"),
        Outcome.FAILED,
        "w",
        0,
        (failure,),
        text,
        text,
        (1,),
    )
    kept = Verdict(
        Entry(1, "app.T.test_b", "app.T", "app", Phase.ISOLATED), Outcome.NOT_RUN, reason=text
    )
    leaks = (Leak(LeakKind.PROCESS, text, "app.T", "w", 0),)
    return RunReport("r", (v, kept), (f,), 1, note=text, leaks=leaks, properties={"branch": text})


def everything_shown(whole: RunReport, text: str, folder: Path) -> str:
    scene = Scene(verbosity=2)
    scene.terminal.line(text)
    scene.terminal.warn(text)
    scene.start(2, durations=0)
    scene.verdict(whole.verdicts[0])
    scene.fixture(whole.fixtures[0])
    scene.finish(whole)
    write_junit(folder / "junit.xml", whole)
    write_json(folder / "run.json", whole)
    written = json.dumps(json.loads((folder / "run.json").read_text()), ensure_ascii=False)
    return (
        scene.out.getvalue() + scene.err.getvalue() + (folder / "junit.xml").read_text() + written
    )


@pytest.mark.parametrize(
    "said",
    [
        f"login with {SECRET} failed",
        "corr\x1b[31mect<horse>\x1b[0m&'battery\"",
        "connect to postgres://shop:correct<hor se@db failed",
        "postgres://u:correct<horse/a#b@db is no host",
    ],
)
def test_a_secret_is_in_no_output(tmp_path: Path, said: str) -> None:
    # When
    shown = everything_shown(report(said), said, tmp_path)

    # Then
    for spelled in ("correct<h", "correct&lt;h", "battery"):
        assert spelled not in shown


def test_a_password_in_a_line_of_a_traceback_is_not_shown(tmp_path: Path) -> None:
    # Given a value that this process does not know
    failure = Failure(
        "error", "OSError", "no", "  File x\n    connect(host='db', password='hunter22', port=1)\n"
    )
    v = Verdict(
        Entry(0, "a.T.t", "a.T", "a", Phase.ISOLATED), Outcome.ERROR, 0.1, "w", 0, 1, (failure,)
    )
    f = FixtureVerdict(FixtureRef.parse("setUpClass (a.T)"), Outcome.ERROR, "w", 0, (failure,))

    # Then
    assert "hunter22" not in everything_shown(RunReport("r", (v,), (f,), 1), "", tmp_path)


def test_what_a_test_printed_keeps_common_words(tmp_path: Path) -> None:
    # Given what a test of a login form prints
    v = Verdict(
        Entry(0, "a.T.t", "a.T", "a", Phase.ISOLATED), Outcome.FAILED, 0.1, "w", 0, 1,
        output="{'password': 'too short'}\n"
    )  # fmt: skip
    f = FixtureVerdict(FixtureRef.parse("setUpClass (a.T)"), Outcome.PASSED)

    # Then
    assert "'too short'" in everything_shown(RunReport("r", (v,), (f,), 1), "", tmp_path)


@pytest.mark.parametrize(
    "url", ["wss://user:pass@example.com/p", "ftp://u:p@h", "http://h/?token=abc", "http://u:pw1@h"]
)
def test_an_id_with_the_url_of_an_example_stays(url: str) -> None:
    # Given what other tools know the test by
    name = f"test_a.py::test_url[{url}]"
    entry = Entry(0, name, "test_a.py", "test_a.py", Phase.ISOLATED)
    data = {"nodeid": name, "location": ["test_a.py", 3, f"test_url[{url}]"], "longrepr": f"-{url}"}
    told = json.dumps({"events": [{"report": data}]})

    # When
    shown = masked.verdict(Verdict(entry, Outcome.FAILED, reports=told), masking.PROCESS)

    # Then: it does, and what the test printed is masked
    ((_, reported),) = json.loads(shown.reports)["events"][0].items()
    assert (shown.entry.id, reported["nodeid"]) == (name, name)
    assert reported["location"] == data["location"]
    assert reported["longrepr"] != data["longrepr"]


@given(
    st.lists(
        st.sampled_from(["\x1b[0m", "a", "\n", "&", "<", '"', "]]>", "::", SECRET]), max_size=12
    ).map("".join)
)
def test_xml_and_json_stay_whole_around_a_secret(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    # Given
    folder = tmp_path_factory.mktemp("report")

    # Then: it parses, and says nothing
    assert "battery" not in everything_shown(report(text), text, folder)


PIECES = (
    *("\x1b[0m", "\x1b", "[0m", "a", "\n", " ", "://", "u:", "p@", "?token=", "redis://"),
    *(SECRET, SECRET[:5], SECRET[5:], "pass1", "tail-of", "head-of"),
)


@example([f"{SECRET[:5]}\x1b[0m{SECRET[5:]}"])
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), max_size=6))
def test_many_names_are_masked_like_each_of_them(names: list[str]) -> None:
    # Given secrets of one and of two lines, long and short
    mask = masking.Masker([SECRET, "tail-of\nhead-of", "pass1"])
    verdicts = tuple(
        Verdict(Entry(i, name, "app.T", "app", Phase.ISOLATED), Outcome.PASSED)
        for i, name in enumerate(names)
    )

    # When
    whole = masked.report(RunReport("r", verdicts, (), 0), mask)

    # Then
    assert whole.verdicts == tuple(masked.verdict(one, mask) for one in verdicts)


@pytest.mark.parametrize("text", ["{", "\x00", "[" * 100_000])
def test_reports_of_a_framework_that_nobody_can_read_are_left_out(text: str) -> None:
    # Given
    entry = Entry(0, "app.T.test_it", "app.T", "app", Phase.ISOLATED)
    told = Verdict(entry, Outcome.PASSED, reports=text)
    # When / Then
    assert masked.verdict(told, masking.PROCESS).reports == ""
