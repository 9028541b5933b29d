"""What every unit test starts with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from dct_celery.security import masking


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that one test loads must not put holes into what another one prints."""
    monkeypatch.setattr(masking, "PROCESS", masking.Masker())


@pytest.fixture(autouse=True, scope="module")
def _temporary_files_go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders of forks outlive the objects that tests make them with: a worker removes them."""
    tmp_path_factory.getbasetemp()  # lasts longer, so it is not to lie in here
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(tempfile, "tempdir", folder)
        yield
