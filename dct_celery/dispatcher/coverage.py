"""Coverage data of a run, brought home when it has ended: those of attempts that count alone."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from dct_celery.core.model import MAX_ARTIFACT, MAX_ARTIFACTS, Artifact
from dct_celery.core.run.machine import RunMachine
from dct_celery.core.text import plural
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.dispatcher.worker_reports import WorkerReports
from dct_celery.errors import StoreUnavailable
from dct_celery.ports.reporting import CoverageArrived, Warned

#: Bytes of data that are in memory at a time.
_AT_ONCE = 2 * MAX_ARTIFACT


@contextlib.contextmanager
def brought_home(
    services: DispatcherServices, machine: RunMachine, workers: WorkerReports, root: Path
) -> Iterator[CoverageArrived]:
    """All data in files, which exist within; warns of what is missing. `root`: top of the tree
    here.
    """
    accepted, lost = machine.left_behind.coverage(machine.verdicts)
    with tempfile.TemporaryDirectory(prefix="dct-coverage-") as name:
        folder = Path(name)
        # Two processes that have executed the same have the same data, in one file.
        wanted = {one.digest: one for one in (*workers.measured, *accepted)}
        missing = len(wanted) - _fetch(services, wanted.values(), folder)
        for line in _complaints(missing + workers.unmeasured, lost, found=bool(workers.measured)):
            services.report(Warned(line))
        yield CoverageArrived(folder, root)


def _complaints(missing: int, lost: int, *, found: bool) -> Iterable[str]:
    """`found`: there are data of processes that run no tests."""
    if lost:
        yield (
            f"coverage is incomplete: {plural(lost, 'test')} ran in processes that died, or that"
            f" had more than {MAX_ARTIFACT // 2**20} MB of data"
        )
    if missing:
        have = "has" if missing == 1 else "have"
        yield f"coverage is incomplete: {plural(missing, 'data file')} {have} not arrived"
    elif not found:
        yield (
            "coverage is incomplete: nothing has arrived of what ran before the first test, such as"
            " migrations and system checks"
        )


def _fetch(services: DispatcherServices, wanted: Iterable[Artifact], folder: Path) -> int:
    """Writes the files, removes them from the store, and returns how many there are."""
    written = 0
    try:
        for batch in _batches(wanted):
            found = services.files.get({one.digest: one.size for one in batch})
            for digest, content in found.items():
                (folder / digest).write_bytes(content)
                written += 1
            services.files.drop(set(found))
    except StoreUnavailable as error:
        services.report(Warned(f"coverage data cannot be fetched: {error}"))
    return written


def _batches(artifacts: Iterable[Artifact]) -> Iterable[list[Artifact]]:
    """Up to the limit for all files of a run."""
    batch: list[Artifact] = []
    size = total = 0
    for artifact in artifacts:
        total += artifact.size
        if total > MAX_ARTIFACTS or artifact.size > MAX_ARTIFACT:
            break
        if batch and size + artifact.size > _AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(artifact)
        size += artifact.size
    if batch:
        yield batch
