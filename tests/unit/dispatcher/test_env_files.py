"""Claims about `dispatcher.env_files`: what the project reads from a file that workers lack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dct_celery.dispatcher.env_files import refuse_missing
from dct_celery.errors import ConfigError
from tests.support.factories import REQUEST

Check = Callable[..., None]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Checks a project whose `.env` sets REGION and TOKEN, in the folder `shop` of its tree."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / ".env").write_text("# region\nREGION=north\n  export TOKEN = x\n")
    request = replace(
        REQUEST, root=str(tmp_path), directory="shop", sys_path=("shop",), environment={"TZ": "UTC"}
    )

    def run(*variables: str, sent: tuple[str, ...] = (), **given: str) -> None:
        refuse_missing(
            replace(request, environment={**request.environment, **given}), variables, set(sent)
        )

    return run


def test_a_file_that_the_project_has_read_and_workers_lack_is_named_with_both_fixes(
    check: Check,
) -> None:
    with pytest.raises(
        ConfigError,
        match=(
            r"^the project reads REGION, TOKEN from shop/\.env, which is not sent .*"
            r"--include shop/\.env.*--env REGION$"
        ),
    ):
        check("TOKEN", "REGION", "TZ")


def test_a_file_that_is_sent_or_was_not_read_or_whose_variables_travel_is_no_matter(
    check: Check,
) -> None:
    check("REGION", "TOKEN", sent=("shop/.env",))
    check("TZ", "DJANGO_SETTINGS_MODULE")
    check("REGION", "TOKEN", REGION="south", TOKEN="y")


def test_a_file_beside_the_settings_is_found(check: Check, tmp_path: Path) -> None:
    # Given the settings site.settings
    (tmp_path / "shop" / "site").mkdir()
    (tmp_path / "shop" / "site" / ".env.local").write_text("A1=1\nA2=1\nA3=1\nA4=1\nA5=1\nA6=1\n")
    # When / Then
    with pytest.raises(
        ConfigError, match=r"reads A1, A2, A3, A4, A5 and 1 more from shop/site/\.env\.local,"
    ):
        check("A1", "A2", "A3", "A4", "A5", "A6")
