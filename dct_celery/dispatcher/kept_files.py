"""Files that tests wrote where the dispatcher wants them: those of accepted attempts come home."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dct_celery.core.globs import Globs
from dct_celery.core.model import MAX_ARTIFACT, MAX_ARTIFACTS, KeptFile
from dct_celery.core.run.machine import RunMachine
from dct_celery.core.text import first_of, plural
from dct_celery.dispatcher.artifacts import masked_content
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.errors import StoreUnavailable, UsageError
from dct_celery.ports.reporting import FileArrived, Warned


def bring_home(
    services: DispatcherServices, machine: RunMachine, patterns: Sequence[str], root: Path
) -> None:
    """Gives each file to the reporters, and warns of what is missing or was written twice.

    A path that several attempts wrote with different contents: the last one in the order of the
    suite has it, as after the sequential run; the others get a number behind it. `root`: top of the
    tree here.
    """
    globs = Globs(patterns)
    accepted, left = machine.left_behind.files(machine.verdicts)
    wanted = [file for file in accepted if globs.match(file.path)]
    placed = dict(_places(wanted))
    missing = 0
    refused: list[str] = []
    for place, file, content in _fetched(services, placed):
        if content is None:
            missing += 1
        else:
            try:
                services.report(FileArrived(root, place, file, masked_content(content)))
            except UsageError as error:
                # The next one may be written, and the verdicts are worth more than all of them.
                refused.append(str(error))
    if refused:
        services.report(Warned(first_of(refused)))
    for line in _complaints(placed, missing + left):
        services.report(Warned(line))


def _places(files: Iterable[KeptFile]) -> Iterator[tuple[str, KeptFile]]:
    """Where each goes; `files` in the order of the suite."""
    contents: dict[str, dict[str, KeptFile]] = {}
    for file in files:
        # The last one with a content counts.
        contents.setdefault(file.path, {}).pop(file.digest, None)
        contents[file.path][file.digest] = file
    for path, by_digest in contents.items():
        *others, last = by_digest.values()
        yield path, last
        free = (f"{path}.{n}" for n in itertools.count(1) if f"{path}.{n}" not in contents)
        yield from zip(free, others, strict=False)


def _complaints(placed: dict[str, KeptFile], missing: int) -> Iterable[str]:
    twice = sorted({file.path for place, file in placed.items() if place != file.path})
    if twice:
        yield (
            f"{plural(len(twice), 'file')} written by several chunks of tests with different"
            " contents: the last in the order of the suite has the name, the others a number behind"
            " it"
            f" ({first_of(twice)})"
        )
    if missing:
        yield (
            f"{plural(missing, 'file')} of tests (--artifact-path) did not come home: too many, too"
            f" large (more than {MAX_ARTIFACT // 2**20} MB each, {MAX_ARTIFACTS // 2**20} MB"
            " together), or lost on the way"
        )


def _fetched(
    services: DispatcherServices, placed: dict[str, KeptFile]
) -> Iterator[tuple[str, KeptFile, bytes | None]]:
    total = 0
    digests: set[str] = set()
    for place, file in placed.items():
        total += file.size
        content = None
        if total <= MAX_ARTIFACTS and file.size <= MAX_ARTIFACT:
            try:
                content = services.files.get({file.digest: file.size}).get(file.digest)
            except StoreUnavailable:
                total = MAX_ARTIFACTS  # the others need not be tried
        digests.add(file.digest)
        yield place, file, content
    try:
        services.files.drop(digests)
    except StoreUnavailable:
        return
