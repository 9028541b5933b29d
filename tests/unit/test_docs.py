"""The documents name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import settings_page

ROOT = Path(__file__).parents[2]
#: A path with a folder in it, within backquotes; what follows a colon is a name in the file.
_PATH = re.compile(r"`((?:[a-z_]+/)+[a-zA-Z_]*(?:\.[a-z]+)?)(?::[^`]*)?`")
#: What stands for files of users, or for what is made.
_OTHERS = {"artifacts/", "reports/junit.xml"}


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md", "docs/backends.md"])
def test_a_file_that_a_document_names_is_there(name: str) -> None:
    # Given
    named = set(_PATH.findall((ROOT / name).read_text())) - _OTHERS
    # Then
    missing = {
        path
        for path in named
        if not any((base / path).exists() for base in (ROOT, ROOT / "dct_celery", ROOT / "docs"))
    }
    relative = {path for path in missing if list(ROOT.glob(f"dct_celery/*/{path}"))}
    assert missing - relative == set()
    assert named


def test_every_setting_has_its_row_in_the_page_of_settings() -> None:
    written = settings_page.PAGE.read_text(encoding="utf-8")
    assert written == settings_page.page(), "run: python -m tests.support.settings_page"
