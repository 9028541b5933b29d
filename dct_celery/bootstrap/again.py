"""Wires the commands that go back to an earlier run: `dct replay`, `dct bisect`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dct_celery.bootstrap.dispatcher import Task, run_tests
from dct_celery.errors import StoreUnavailable, Untrusted, UsageError
from dct_celery.ports.reporting import Reporter
from dct_celery.security.folders import state_folder
from dct_celery.settings import OUTPUTS, Settings

if TYPE_CHECKING:
    from dct_celery.core.model import RunReport
    from dct_celery.core.part import Part
    from dct_celery.dispatcher.past_run import PastRun
    from dct_celery.protocol.door import Door


@dataclass(frozen=True, slots=True)
class Replayed:
    """The report of a replay, and a line that compares it with the run."""

    report: RunReport
    closing: str


def replay_run(
    settings: Settings,
    origins: Mapping[str, str],
    run: str,
    test: str | None,
    given: Mapping[str, object],
    reporters: Iterable[Reporter],
    interrupted: Callable[[], bool],
) -> Replayed:
    """Runs the tests of one process of that run again. Raises DctError.

    `given`: the settings that were given to this command.
    """
    from dct_celery.dispatcher.replay import plan_replay

    past = past_run(settings, origins, run)
    replay = plan_replay(past, test)
    ours, task = again(past, settings, given, replay.part)
    task = replace(task, opening=replay.opening)
    report = run_tests(replace(ours, settle=0), origins, reporters, interrupted, task)
    return Replayed(report, replay.closing(report))


@dataclass(frozen=True, slots=True)
class Bisected:
    """The report of a bisection, and what it says, as lines for people."""

    report: RunReport
    lines: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 if the question is answered, 1 if it is not; else that of a run without a verdict."""
        if self.report.exit_code not in (0, 1):
            return self.report.exit_code
        found = self.report.bisection
        return 0 if found is not None and found.proven else 1


def bisect_run(
    settings: Settings,
    origins: Mapping[str, str],
    run: str,
    test: str,
    given: Mapping[str, object],
    reporters: Iterable[Reporter],
    interrupted: Callable[[], bool],
) -> Bisected:
    """Finds out what the verdict of a test of that run depends on. Raises DctError.

    `given`: the settings that were given to this command.
    """
    from dct_celery.dispatcher.bisect import explained, plan_bisection

    if given.get("settle") is not None and settings.settle == 0:
        raise UsageError("--settle 0 leaves nothing to find out with; give more, or leave it out")
    past = past_run(settings, origins, run)
    part, opening = plan_bisection(past, test)
    ours, task = again(past, settings, given, part, local=0)
    ours = replace(ours, settle=settings.settle if "settle" in given else None)
    changed: list[str] = []
    task = replace(task, opening=opening, changed=changed.append)
    report = run_tests(ours, origins, reporters, interrupted, task)
    found = report.bisection
    lines = explained(found, changed=bool(changed)) if found is not None else []
    return Bisected(report, tuple(lines))


def again(
    past: PastRun,
    settings: Settings,
    given: Mapping[str, object],
    part: Part,
    local: int = 1,
) -> tuple[Settings, Task]:
    """Settings and task of a run of this part of what `past` selected.

    `local`: slots of this machine for what ran there, 0 for one per core. Raises UsageError.
    """
    from dct_celery.adapters.source.snapshot import find_root
    from dct_celery.dispatcher.replay import request_again, settings_again

    ours = settings_again(past, settings, given, local)
    root = find_root(Path(ours.project_dir))
    written = (past.snapshot.settings.get(name) for name in OUTPUTS)
    task = Task(
        request=request_again(past, ours, root, os.environ),
        part=part,
        earlier=past.run,
        tree=past.snapshot.spec.tree,
        written=tuple(path for path in written if isinstance(path, str)),
    )
    return ours, task


def past_run(settings: Settings, origins: Mapping[str, str], run: str) -> PastRun:
    """The run as this machine's journal or the store has it.

    Raises UsageError if it is not known, StoreUnavailable.
    """
    from dct_celery.adapters.local_fleet import POOL, kept_local_key
    from dct_celery.core.ids import is_run_id
    from dct_celery.dispatcher import past_run as past_runs
    from dct_celery.protocol.door import Door
    from dct_celery.security.signing import Keyring

    if not is_run_id(run):  # it names a journal
        raise UsageError(f"{run!r} is no id of a run; each run prints its own")
    state = state_folder(os.environ)
    doors: list[tuple[Door, bool]] = []
    # Without a key, anyone could have signed what then runs here.
    if settings.signing_keys or settings.insecure:
        doors.append((Door.of_pool(Keyring(settings.signing_keys), settings.pool), False))
    if key := kept_local_key(state):
        doors.append((Door.of_pool(Keyring((key,)), POOL), True))

    def in_store() -> PastRun | None:
        if not doors or doors[0][1]:
            return None
        try:
            return _in_store(settings, origins, run, doors[0][0])
        except StoreUnavailable:
            if origins.get("store", "default") != "default":
                raise
            return None

    return past_runs.find(state / "runs", run, doors, in_store)


def _in_store(
    settings: Settings, origins: Mapping[str, str], run: str, pool: Door
) -> PastRun | None:
    from dct_celery.adapters.redisstore import client, ledger
    from dct_celery.dispatcher import past_run as past_runs

    with contextlib.closing(client.connect(settings.store, retries=1)) as store:
        client.check(store, settings.store, origins.get("store", "store"))
        door = pool.of_run(run, *ledger.stored_run(store, run))
        try:
            return past_runs.from_store(ledger.RedisLedger(store, run, door), run, door)
        except Untrusted:
            return None
