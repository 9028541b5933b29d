"""Claims about the slots of a command: what they need is looked at before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dct_celery.bootstrap.dispatcher import _fleet_for
from dct_celery.errors import UsageError
from dct_celery.settings import Settings


@pytest.mark.parametrize("place", [{"local": 1}, {"local_fallback": 1}])
def test_a_log_that_cannot_be_written_is_one_line_with_its_origin(
    tmp_path: Path, place: dict[str, Any]
) -> None:
    # Given
    (tmp_path / "manage.py").write_text("DJANGO_SETTINGS_MODULE")
    (tmp_path / "logs").mkdir()
    settings = Settings(
        project_dir=str(tmp_path), settings="shop.settings", log_file="logs", **place
    )
    # When / Then
    with (
        pytest.raises(UsageError, match=r"^cannot write .*/logs \(from DCT_LOG_FILE\): it is a fo"),
        _fleet_for(settings, {"log_file": "DCT_LOG_FILE"}),
    ):
        pass
