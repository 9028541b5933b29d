"""Claims about `dct config`: every value with its origin, aligned, and no secret."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from dct_celery.cli.config import command
from dct_celery.settings import OPTIONS


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project folder with a value from the file and one from a variable."""
    for name in [name for name in os.environ if name.startswith("DCT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pyproject.toml").write_text("[tool.dct]\ntag = ['a', 'b']\nfailfast = true\n")
    monkeypatch.setenv("DCT_STORE", "redis://:hush@h/0")
    monkeypatch.setenv("DCT_SIGNING_KEY", "hush" * 8)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output(*args: str) -> str:
    result = CliRunner().invoke(command, args, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_each_value_has_its_origin_in_one_column() -> None:
    # When
    lines = output().splitlines()

    # Then
    words = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert set(words) == {option.key for option in OPTIONS}
    assert words["tag"].split(maxsplit=1)[1] == "a, b             [tool.dct] tag in pyproject.toml"
    assert words["failfast"].split()[1:4] == ["true", "[tool.dct]", "failfast"]
    assert words["queue-timeout"].split() == ["queue-timeout", "60", "default"]
    assert words["local"].split() == ["local", "-", "default"]
    assert words["broker"].endswith("same as store")
    column = words["tag"].index("[tool.dct]")
    assert {line[column - 2 : column] for line in words.values()} == {"  "}


def test_origins_can_be_left_out() -> None:
    # Given: the one value that reads like an origin
    rows = [
        line for line in output("--no-origin").splitlines() if line.split() != ["pool", "default"]
    ]

    # Then
    assert "default" not in "\n".join(rows)
    assert output("--origin") == output()


def test_the_groups_come_in_the_order_of_the_help(project: Path) -> None:
    # When
    titles = [line for line in output().splitlines() if line and not line.startswith(" ")]

    # Then
    assert titles == [
        f"Project: {project}", "Selection and order:", "Fleet:", "Code:", "Databases:", "Limits:",
        "Reports:", "Timings:", "Worker:",
    ]  # fmt: skip


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_no_secret_is_shown(args: list[str]) -> None:
    # When
    text = output(*args)

    # Then
    assert "hush" not in text
    assert "redis://:**@h/0" in text


def test_json_has_values_of_their_own_types(project: Path) -> None:
    # When
    data = json.loads(output("--json"))

    # Then
    assert data["project_dir"] == str(project)
    assert data["settings"]["tag"] == {
        "value": ["a", "b"],
        "origin": "[tool.dct] tag in pyproject.toml",
    }
    assert data["settings"]["signing_key"] == {"value": "**", "origin": "DCT_SIGNING_KEY"}
    assert data["settings"]["test_timeout"] == {"value": None, "origin": "default"}
    assert set(data["settings"]) == {option.name for option in OPTIONS}
