"""Commands on a composition root of the test's own; other tests cover the real one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result


def replace_root(monkeypatch: pytest.MonkeyPatch, folder: Path, **functions: object) -> None:
    """The functions are all that `dct_celery.bootstrap` has; the command runs in `folder`, without
    our variables.
    """
    fake_root(monkeypatch, **functions)
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("DCT_")]:
        monkeypatch.delenv(name)


def fake_root(monkeypatch: pytest.MonkeyPatch, **functions: object) -> ModuleType:
    """Each module of the composition root has these functions, and nothing else."""
    fake = ModuleType("dct_celery.bootstrap")
    vars(fake).update(functions)
    for module in ("dispatcher", "inspection", "maintenance", "report_files", "worker"):
        monkeypatch.setitem(sys.modules, f"dct_celery.bootstrap.{module}", fake)
    return fake


def run(command: click.Command, *args: str) -> Result:
    """AssertionError when the command ends with an exception of its own."""
    result = CliRunner().invoke(command, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result
