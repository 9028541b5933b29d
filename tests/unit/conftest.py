"""What every unit test starts with."""

from __future__ import annotations

import pytest

from dct_celery.security import masking


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that one test loads must not put holes into what another one prints."""
    monkeypatch.setattr(masking, "PROCESS", masking.Masker())
