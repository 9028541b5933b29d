"""`dct run` and `dct attach`: settings in, a run's exit code out."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from dct_celery.core.address import parse
from dct_celery.core.redact import redact
from dct_celery.errors import BrokerUnavailable, ConfigError, UsageError
from dct_celery.settings import Settings

if TYPE_CHECKING:
    from dct_celery.adapters.source.snapshot import Snapshot
    from dct_celery.core.model import RunReport
    from dct_celery.dispatcher.request import Request
    from dct_celery.dispatcher.services import DispatcherServices
    from dct_celery.ports import BlobStore, ChunkQueue


def run_tests(settings: Settings, origins: dict[str, str]) -> int:
    """`dct run`: the exit code by I10. Raises DctError for what stops it before there is a report."""
    interrupts = _Interrupts()
    if settings.local is None and settings.local_fallback is None:
        return _dispatch(settings, origins, interrupts)
    from dct_celery.adapters.localfleet import Standby, local_fleet

    if settings.local is None:
        with Standby(settings) as standby:
            return _dispatch(settings, origins, interrupts, fall_back=standby.start)
    if settings.local_fallback is not None:
        places = f"{origins.get('local', '--local')} and {origins.get('local_fallback', '--local-fallback')}"
        raise UsageError(f"{places} exclude each other: a local run has no fleet to wait for; remove one")
    with local_fleet(settings) as fleet:
        return _dispatch(fleet.settings, {**origins, **fleet.origins}, interrupts, fleet.trouble)


def _dispatch(
    settings: Settings,
    origins: dict[str, str],
    interrupts: _Interrupts,
    fleet_trouble: Callable[[], str] = str,
    fall_back: Callable[[], int] | None = None,
) -> int:
    from dct_celery.adapters.source.snapshot import find_root
    from dct_celery.dispatcher.dispatch import Dispatch
    from dct_celery.dispatcher.request import make_request
    from dct_celery.reports.files import check_writable

    for name in ("junit_xml", "json"):
        if path := getattr(settings, name):
            check_writable(Path(settings.project_dir, path), origins.get(name, ""))
    root = find_root(Path(settings.project_dir))
    seed = random.randint(0, 2**32 - 1) if settings.shuffle == "auto" else settings.shuffle
    hash_seed = os.environ.get("PYTHONHASHSEED") or str(random.randint(1, 2**32 - 1))
    request = make_request(settings, root, os.environ, seed, hash_seed)
    services = _dispatcher_services(settings, origins, request, interrupts)
    dispatch = Dispatch(replace(services, fleet_trouble=fleet_trouble, fall_back=fall_back), request)
    return dispatch.execute()


def attach_run(settings: Settings, origins: dict[str, str], run: str, given: frozenset[str]) -> int:
    """`dct attach`: the exit code by I10. `given`: settings that are not to be those of the run. Raises UsageError when there is
    nothing to adopt, StoreUnavailable."""
    from dct_celery.dispatcher.adopt import adopt
    from dct_celery.dispatcher.conduct import Conduct, Stopwatch
    from dct_celery.dispatcher.standing import StandingRun
    from dct_celery.reports.files import check_writable

    settings = replace(settings, run_id=run)
    services = _dispatcher_services(settings, origins, None, _Interrupts())
    adopted = adopt(services)
    request = adopted.head.to_request()
    settings = adopted.head.to_settings(settings, given)
    for name in ("junit_xml", "json"):
        if path := getattr(settings, name):
            check_writable(Path(settings.project_dir, path), origins.get(name, "the run's own setting"))
    services = replace(services, settings=settings, write_reports=partial(_write_reports, settings))
    services.console.explain(request.rerun)
    standing = StandingRun(
        services,
        adopted.head.spec,
        partial(_upload_again, request.root, services.blobs),
        epoch=adopted.epoch,
        incarnation=adopted.incarnation,
    )
    conduct = Conduct(services, standing, adopted.head, adopted.head.to_collected(), Stopwatch(services, services.clock()))
    try:
        return conduct.go_on(adopted.journal, whole=adopted.whole)
    finally:
        services.console.close()
        standing.leave()


def _upload_again(root: Path, store: BlobStore) -> None:
    """The code, for workers that join later; on another machine there is none, and those that have it go on."""
    if root.is_dir():
        _upload(root, store)


def _dispatcher_services(
    settings: Settings, origins: dict[str, str], request: Request | None, interrupts: _Interrupts
) -> DispatcherServices:
    from dct_celery.adapters.process import PipeProcess, user_environment
    from dct_celery.adapters.redisstore import blobs, client, ledger, registry
    from dct_celery.dispatcher.services import DispatcherServices
    from dct_celery.reports.terminal import Terminal

    run = settings.run_id or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    key = settings.signing_key or ""
    store = client.connect(settings.store)
    checked = client.check(store, settings.store, origins.get("store", "store"))
    console = Terminal.detect(
        os.environ, out=sys.stdout, err=sys.stderr, verbosity=settings.verbosity, clock=time.monotonic,
        rerun=request.rerun if request is not None else lambda verdict: verdict.entry.id,
    )  # fmt: skip
    for warning in checked.warnings:
        console.warn(warning)
    if settings.broker != settings.store and (insecure := parse(settings.broker).insecure):
        console.warn(f"the broker at {redact(settings.broker)}: {insecure}")
    queue = _LateQueue(partial(_chunk_queue, settings, run, key, origins.get("broker", "broker")))
    return DispatcherServices(
        settings=settings,
        run=run,
        owner=secrets.token_hex(8),
        key=key,
        clock=time.monotonic,
        wall=time.time,
        sleep=time.sleep,
        registry=registry.RedisRegistry(store, settings.pool),
        ledger=ledger.RedisLedger(store, run),
        queue=queue,
        broker=queue.identity,
        blobs=blobs.RedisBlobs(store),
        timings=partial(blobs.RedisTimings, store),
        console=console,
        state_folder=Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "dct_celery",
        environ=dict(os.environ),
        start_process=PipeProcess,
        user_environment=partial(user_environment, dict(os.environ)),
        snapshot=_upload,
        write_reports=partial(_write_reports, settings),
        interrupted=interrupts.seen,
    )


def _chunk_queue(settings: Settings, run: str, key: str, origin: str) -> ChunkQueue:
    from dct_celery.adapters.celeryqueue.app import make_app
    from dct_celery.adapters.celeryqueue.queue import CeleryChunkQueue

    return CeleryChunkQueue(make_app(settings), run, key, origin)


class _LateQueue:
    """A queue that is made when it is first used: importing Celery takes longer than announcing the run."""

    def __init__(self, make: Callable[[], ChunkQueue]) -> None:
        self._made = functools.cache(make)

    def check(self) -> None:
        self._made().check()

    def identity(self) -> str:
        """Empty where the broker is away."""
        with contextlib.suppress(BrokerUnavailable):
            return self._made().identity()
        return ""

    def publish(self, message: Mapping[str, Any]) -> None:
        self._made().publish(message)

    def purge(self) -> None:
        self._made().purge()


def _upload(root: Path, store: BlobStore) -> tuple[Snapshot, int, int]:
    from dct_celery.adapters.source import snapshot

    taken = snapshot.take(root)
    by_digest = {file.digest: file for file in taken.files}
    missing = store.missing([*by_digest, taken.digest])
    sent = 0

    def contents() -> Any:
        nonlocal sent
        for digest in missing - {taken.digest}:
            content = snapshot.content(root, by_digest[digest])
            if snapshot.digest_of(content) != digest:
                raise ConfigError(f"{by_digest[digest].path} changed while it was read; run again when nothing writes there")
            sent += len(content)
            yield digest, content
        if taken.digest in missing:
            yield taken.digest, taken.index()

    store.put(contents())
    return taken, len(taken.files), sent


def _write_reports(settings: Settings, report: RunReport) -> None:
    from dct_celery.reports import files

    if settings.junit_xml:
        files.write_junit(Path(settings.project_dir, settings.junit_xml), report, settings.junit_family)
    if settings.json:
        files.write_json(Path(settings.project_dir, settings.json), report)


class _Interrupts:
    """SIGINT and SIGTERM: the first is a flag that the run looks at, the second ends the process at once."""

    def __init__(self) -> None:
        self._count = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread: a test, or somebody's embedding
                signal.signal(number, self._handle)

    def seen(self) -> bool:
        return self._count > 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            os._exit(2)
