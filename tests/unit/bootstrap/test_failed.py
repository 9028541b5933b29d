"""Claims about a run that ends without results: the reports say so, and none of an earlier run is
left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from dct_celery.bootstrap.dispatcher import _reported_to
from dct_celery.bootstrap.report_files import report_failure
from dct_celery.core.model import Entry, Outcome, Phase, RunReport, Verdict
from dct_celery.errors import (
    ConfigError,
    DctError,
    InfrastructureError,
    Interrupted,
    NothingSelected,
    Superseded,
)
from dct_celery.ports.reporting import Finished
from dct_celery.reports.file_reporters import of_settings
from dct_celery.reports.reporter import Reporters
from dct_celery.security import masking
from dct_celery.settings import Settings, load

SCHEMA = etree.XMLSchema(etree.parse(str(Path(__file__).parents[2] / "data" / "junit-10.xsd")))
GREEN = RunReport(
    "old", (Verdict(Entry(0, "a.T.t", "a.T", "a", Phase.ISOLATED), Outcome.PASSED),), (), 0
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a run whose folder has the reports of an earlier, green one."""
    settings = Settings(project_dir=str(tmp_path), junit_xml="junit.xml", json="run.json")
    for file in of_settings(settings, lambda: 5.0):
        file.write(GREEN)
    return settings


def reporters_of(settings: Settings) -> Reporters:
    return Reporters(of_settings(settings, lambda: 5.0))


def end_with(settings: Settings, error: BaseException, after: RunReport | None = None) -> None:
    """A run that ends with the error, perhaps after it has written a report."""
    reporters = reporters_of(settings)

    def run() -> None:
        with _reported_to(reporters, "r1"):
            if after:
                reporters.take(Finished(after))
            raise error

    with pytest.raises(type(error)):
        run()


def reports(settings: Settings) -> tuple[Any, Any]:
    folder = Path(settings.project_dir)
    return etree.parse(str(folder / "junit.xml")), json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize("family", ["dct", "xunit2"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InfrastructureError("nobody took it"), 7),
        (ConfigError("--pool: 'X' is not valid"), 4),
        (NothingSelected("no test was selected"), 5),
        (Interrupted("interrupted while collecting"), 2),
        (DctError("our fault"), 3),
        (KeyError("x"), 3),
        (KeyboardInterrupt(), 2),
    ],
)
def test_each_way_to_end_without_results_is_a_red_document(
    settings: Settings, family: Any, error: BaseException, code: int
) -> None:
    # When
    end_with(Settings(**{**load_of(settings), "junit_family": family}), error)

    # Then: one suite, one case, one error, and any reader takes it
    document, data = reports(settings)
    assert SCHEMA.validate(document), SCHEMA.error_log
    (case,) = document.iterfind("testsuite/testcase")
    (problem,) = case
    assert problem.tag == "error"
    assert str(error).strip("'") in problem.get("message")
    assert document.getroot().get("errors") == "1"
    assert (data["exit_code"], data["tests"]) == (code, [])
    assert str(error) in data["error"]


def load_of(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("project_dir", "junit_xml", "json")}


def test_a_run_that_is_killed_leaves_no_green_report_of_an_earlier_one(settings: Settings) -> None:
    # When: nothing after this point may be counted on
    with _reported_to(reporters_of(settings), "r1"):
        document, data = reports(settings)

    # Then
    assert "has not ended" in document.find(".//error").get("message")
    assert data["exit_code"] == 2


def test_no_report_is_made_before_there_are_results_where_there_was_none(
    tmp_path: Path,
) -> None:
    # Given
    settings = Settings(project_dir=str(tmp_path), junit_xml="junit.xml")

    # When
    with _reported_to(reporters_of(settings), "r1"):
        before = (tmp_path / "junit.xml").exists()
    end_with(settings, InfrastructureError("nobody"))

    # Then
    assert not before
    assert (tmp_path / "junit.xml").exists()


def test_results_are_never_replaced_by_an_error(settings: Settings) -> None:
    # When: it broke after its reports were written
    end_with(settings, RuntimeError("late"), after=GREEN)

    # Then
    assert reports(settings)[1]["error"] == ""
    assert reports(settings)[0].find(".//error") is None


def test_a_run_that_goes_on_elsewhere_leaves_the_reports_alone(settings: Settings) -> None:
    # When
    end_with(settings, Superseded("adopted"), after=GREEN)

    # Then
    assert reports(settings)[1]["error"] == ""


def test_a_report_that_cannot_be_written_hides_no_error(tmp_path: Path) -> None:
    # Given
    (tmp_path / "folder").mkdir()

    # Then: the run's own error comes through
    end_with(
        Settings(project_dir=str(tmp_path), junit_xml="folder", json="/proc/x"),
        InfrastructureError("nobody"),
    )


def test_the_reason_is_masked(settings: Settings) -> None:
    # Given
    masking.PROCESS.learn(["correct-horse"])

    # When
    end_with(settings, InfrastructureError("at redis://:pw@h with correct-horse"))

    # Then
    assert reports(settings)[1]["error"] == "at redis://:**@h with **"


@pytest.mark.parametrize("place", ["flag", "variable", "file"])
def test_a_refused_command_line_is_reported_wherever_its_reports_were_asked_for(
    settings: Settings, place: str
) -> None:
    # Given
    folder = Path(settings.project_dir)
    (folder / "pyproject.toml").write_text(
        "[tool.dct]\njunit-xml = 'junit.xml'\njson = 'run.json'\n" if place == "file" else ""
    )
    flags = (
        {"junit_xml": "junit.xml", "json": "run.json", "timeout": "x"}
        if place == "flag"
        else {"timeout": "x"}
    )
    env = (
        {"DCT_JUNIT_XML": "junit.xml", "DCT_JSON": "run.json", "DCT_X": ""}
        if place == "variable"
        else {}
    )
    with pytest.raises(ConfigError) as caught:
        load(flags, env=env, cwd=folder)

    # When
    report_failure(flags, env, folder, caught.value)

    # Then
    document, data = reports(settings)
    assert data["exit_code"] == 4
    assert document.find(".//error").get("message") == str(caught.value)


def test_a_broken_file_does_not_keep_the_flags_from_being_heeded(settings: Settings) -> None:
    # Given
    folder = Path(settings.project_dir)
    (folder / "pyproject.toml").write_text("[tool.dct")

    # When
    report_failure(
        {"junit_xml": "junit.xml"}, {}, folder, ConfigError("pyproject.toml cannot be read")
    )

    # Then
    assert "cannot be read" in reports(settings)[0].find(".//error").get("message")
