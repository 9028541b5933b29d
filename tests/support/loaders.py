"""A real loader on a small project, and forks of it.

The user's process without worker, store or broker.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from dct_celery.adapters.clock import SystemClock
from dct_celery.adapters.process import PipeProcess
from dct_celery.wire import messages
from dct_celery.worker.processes.test_process import TestProcess

M = TypeVar("M", bound=messages.Message)


class LoaderProcess:
    """A loader that has answered; `loaded` is what it said."""

    def __init__(self, process: PipeProcess, loaded: messages.Loaded, folder: Path) -> None:
        self.loaded = loaded
        self.process = process
        self._folder = folder
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def fork(self) -> Iterator[TestProcess]:
        """A fork of the loader, ended afterwards."""
        folder = self._folder / f"fork-{next(self._numbers)}"
        folder.mkdir()
        process = TestProcess(folder, self._folder / "fork.fifo", {}, SystemClock()).start()
        try:
            yield process
        finally:
            process.finish()

    def ask(self, question: messages.Message, kind: type[M]) -> M | messages.Fatal:
        """What a fork of its own says to the question."""
        with self.fork() as process:
            return process.ask(question, kind, 120)


@contextlib.contextmanager
def loader(
    root: Path,
    folder: Path,
    *argv: str,
    variables: Mapping[str, str] | None = None,
    collect: bool = False,
    directory: str = ".",
    depends: tuple[str, ...] = (),
    command: tuple[str, ...] = ("-m", "django", "test", "--settings=site_settings"),
    sys_path: str = "",
    coverage: bool = False,
    backend: str = "django",
) -> Iterator[LoaderProcess]:
    """A loader (or collect process) of the project in `root`/`directory`.

    `folder`: an empty or absent one for its files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "fork.fifo")
    load = messages.Load(
        backend=backend, command=command, arguments=argv,
        root=str(root), directory=directory, sys_path=[str(root / directory / sys_path)],
        collect_only=collect, fork_fifo=str(folder / "fork.fifo"), template_depends=list(depends),
        coverage=coverage,
    )  # fmt: skip
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(variables or {})}
    with (folder / "loader.log").open("wb") as log:
        process = PipeProcess(sys.executable, load, environment, log)
    try:
        answer = process.receive(timeout=60)
        assert isinstance(answer, messages.Loaded), (answer, (folder / "loader.log").read_text())
        yield LoaderProcess(process, answer, folder)
    finally:
        process.kill()
        process.close(1.0)
