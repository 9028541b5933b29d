"""Claims about `dct timings`, on the timings of local runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dct_celery.adapters.local_timings import FileTimings
from dct_celery.cli.main import invoke
from dct_celery.core.plan.timings import Sample, decode_all, encode
from dct_celery.dispatcher import timing_files

SAMPLES = {
    "t:shop.tests.Cart.test_total": Sample(12.25, 4),
    "t:shop.tests.Cart.test_empty": Sample(0.125, 4),
    "c:shop.tests.Cart": Sample(2.0, 3),
    "t:stock.tests.Shelf.test_full": Sample(1.5, 12),
    "h:stock/tests.py": Sample(3.0, 1),
}
#: A fact about order, which is kept in the same place.
FACT = {"o:shop.tests.Cart": "signed"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a run yet, in whose folder the command runs."""
    for name in [name for name in os.environ if name.startswith("DCT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "manage.py").write_text(
        "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings')\n"
    )
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def memory(project: Path) -> FileTimings:
    """What local runs of the project have learned."""
    kept = FileTimings(project.parent / "state" / "dct_celery" / "timings", "site:.:site.settings")
    kept.save({key: encode(sample) for key, sample in SAMPLES.items()} | FACT)
    return kept


@pytest.mark.usefixtures("memory")
def test_the_slowest_come_first_and_totals_by_app(capsys: pytest.CaptureFixture[str]) -> None:
    # When
    code = invoke(["timings", "show", "--local", "--slowest", "4"])
    # Then
    assert (code, capsys.readouterr().out.splitlines()) == (
        0,
        [
            "   SECONDS   RUNS  NAME",
            "    12.250      4  shop.tests.Cart.test_total",
            "     3.000      -  stock/tests.py",
            "     2.000      3  setUpClass (shop.tests.Cart)",
            "     1.500     12  stock.tests.Shelf.test_full",
            "",
            "   SECONDS  TESTS  APP",
            "    14.375      2  shop",
            "     4.500      2  stock",
            "    18.875      4  2 apps in all",
        ],
    )


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("words", "left"),
    [
        ((), 5),
        (("--app", "shop"), 3),
        (("--app", "shop", "--min-duration", "1"), 2),
        (("--app", "shop.tests.Cart.test_empty", "--app", "stock/tests.py"), 2),
        (("--max-duration", "1.5"), 2),
    ],
)
def test_an_export_holds_what_is_asked_for(
    project: Path, words: tuple[str, ...], left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("out.json", "out.csv"):
        # When
        code = invoke(["timings", "export", name, "--local", *words])
        # Then
        assert code == 0
        found = timing_files.read(project / name)
        assert len(found) == left
        assert found.items() <= SAMPLES.items()
        assert capsys.readouterr().out == f"{left} timings written to {name}\n"


def test_an_import_adds_what_is_not_known_and_replaces_when_told_to(
    project: Path, memory: FileTimings, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given
    new = {
        "t:shop.tests.Cart.test_total": Sample(1.0, 9),
        "t:shop.tests.Cart.test_new": Sample(2, 1),
    }
    timing_files.write(project / "ours.json", new)
    (project / ".test_durations").write_text(
        '{"a.py::test": 0.5, "stock.tests.Shelf.test_full": 9}'  # the second one is measured
    )
    # When
    first = invoke(["timings", "import", "ours.json", ".test_durations", "--local"])
    kept = decode_all(memory.load())
    second = invoke(["timings", "import", "ours.json", "--local", "--replace"])
    # Then
    assert (first, second) == (0, 0)
    assert kept == new | SAMPLES | {"h:a.py::test": Sample(0.5, 1)}
    assert decode_all(memory.load()) == kept | new
    assert memory.load()["o:shop.tests.Cart"] == "signed"
    assert capsys.readouterr().out.splitlines() == [
        "2 timings added to those of local runs; of 2 more, what was known stays (--replace takes"
        " what is in the files)",
        "2 timings added to those of local runs",
    ]


def test_a_bad_file_among_several_leaves_everything_as_it_is(
    project: Path, memory: FileTimings, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given
    before = memory.load()
    (project / "good.json").write_text('{"a": 1}')
    (project / "bad.json").write_text('{"a": NaN}')
    # When
    code = invoke(["timings", "import", "good.json", "bad.json", "--local"])
    # Then
    error = capsys.readouterr().err
    assert code == 4
    assert error.startswith("dct: error: bad.json has no duration for 'a' but NaN; give seconds")
    assert error.count("\n") == 1
    assert memory.load() == before


def test_merging_takes_the_last_of_a_name_and_filtering_a_part(project: Path) -> None:
    # Given
    (project / "a.json").write_text('{"shop.T.x": 1, "shop.T.y": 1}')
    (project / "b.csv").write_text("test_id,duration_seconds\nshop.T.y,20\nstock.T.z,30\n")
    # When
    codes = [
        invoke(["timings", "merge", "a.json", "b.csv", "--output", "all.csv"]),
        invoke(["timings", "filter", "all.csv", "-o", "slow.json", "--min-duration", "5"]),
        invoke(["timings", "filter", "all.csv", "-o", "shop.json", "--app", "shop"]),
    ]
    # Then
    assert codes == [0, 0, 0]
    slow, shop = (json.loads((project / name).read_text()) for name in ("slow.json", "shop.json"))
    assert slow["timings"] == {"shop.T.y": {"duration": 20.0}, "stock.T.z": {"duration": 30.0}}
    assert shop["timings"] == {"shop.T.x": {"duration": 1.0}, "shop.T.y": {"duration": 20.0}}


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("show", "--local"), 5, "there are no timings of local runs: run the tests once, or imp"),
        (("export", "x.json", "--local"), 5, "there are no timings of local runs"),
        (("filter", "a.json", "-o", "b.json", "--app", "x"), 5, "no timing in a.json is left by"),
        (("merge", "none.json", "-o", "b.json"), 4, "none.json cannot be read (No such file"),
        (("merge", "a.json", "-o", "."), 4, "cannot write .: it is a folder"),
        (("merge", "a.json"), 4, "Missing option '-o' / '--output'"),
        (("show", "--local=many"), 4, "--local: 'many' is not valid"),
        (("show", "--local", "--min-duration", "nan"), 4, "'nan' is not a number of seconds."),
        (("show", "--local", "--max-duration", "inf"), 4, "'inf' is not a number of seconds."),
        (("shw",), 4, "No such command 'shw'"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    problem: str,
) -> None:
    # Given
    (project / "a.json").write_text('{"a": 1}')
    # When
    found = invoke(["timings", *words])
    # Then
    error = capsys.readouterr().err
    assert (found, problem in error) == (code, True), error
    assert not (project / "b.json").exists()


def test_outside_of_a_project_nothing_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given
    monkeypatch.chdir(tmp_path)
    # When
    code = invoke(["timings", "show", "--local"])
    # Then
    assert code == 4
    assert "has no Django project" in capsys.readouterr().err
