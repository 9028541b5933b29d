"""Wires `dct run` and `dct attach`: settings in, a report out. No signals, no stdout or stderr."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dct_celery.bootstrap import report_files
from dct_celery.core.address import parse
from dct_celery.core.backends import PYTEST
from dct_celery.core.projects import RECOGNISED
from dct_celery.core.redact import redact
from dct_celery.errors import BrokerUnavailable, Superseded, Untrusted, UsageError
from dct_celery.machine import room
from dct_celery.ports import reporting
from dct_celery.ports.reporting import Notice, Reporter, ReportEvent, Warned
from dct_celery.security import masking, outputs
from dct_celery.security.folders import state_folder
from dct_celery.settings import OUTPUTS, Settings, warnings_of

if TYPE_CHECKING:
    from dct_celery.adapters.source.snapshot import Selection
    from dct_celery.adapters.source.upload import Upload
    from dct_celery.core.model import RunReport
    from dct_celery.core.part import Part
    from dct_celery.dispatcher.request import Request
    from dct_celery.dispatcher.services import DispatcherServices, TakenSnapshot
    from dct_celery.dispatcher.warm import Warmed
    from dct_celery.ports import BlobStore, ChunkQueue, TimingStore
    from dct_celery.protocol.door import Door
    from dct_celery.reports.reporter import Reporters


@dataclass(frozen=True, slots=True)
class Task:
    """What a new run is to run, where the settings do not say all of it."""

    #: In place of that of the settings, for a run that repeats something of an earlier one.
    request: Request | None = None
    #: What runs of it; None for what the request says.
    part: Part | None = None
    #: A line for people, before it begins.
    opening: str = ""
    #: Id of the earlier run, and digest of the code that it ran.
    earlier: str = ""
    tree: str = ""
    #: Is told if the present code is another.
    changed: Callable[[str], object] = str
    #: What the earlier run wrote, which was no part of its code: paths relative to the project.
    written: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where tests run: the settings with the store and pool of its slots.

    The others as in `DispatcherServices`; `timings`: None for those in the store.
    """

    settings: Settings
    origins: dict[str, str]
    #: Why it has so many slots, where that was left to us.
    notice: str = ""
    failure: Callable[[], str] = str
    fall_back: Callable[[], int] | None = None
    timings: Callable[[str], TimingStore] | None = None


def run_tests(
    settings: Settings,
    origins: Mapping[str, str],
    reporters: Iterable[Reporter],
    interrupted: Callable[[], bool],
    task: Task | None = None,
    environ: Mapping[str, str] | None = None,
) -> RunReport:
    """Runs a new run and returns its report. Raises DctError if it ends before there is one.

    `origins`: where each setting came from, for messages. `interrupted`: called several times a
    second; True ends the run early. `environ`: the variables of the user; None for those of this
    process.
    """
    from dct_celery.reports import file_reporters
    from dct_celery.reports.coverage_file import CoverageFile
    from dct_celery.reports.kept_files import KeptFilesHome
    from dct_celery.reports.reporter import Reporters

    given = list(reporters)
    task = task or Task()
    partly = task.part is not None
    if partly:
        settings = replace(settings, coverage=False)
    all_of_them = Reporters([*file_reporters.all_of(settings, time.time), *given])
    if not partly:
        all_of_them.add(KeptFilesHome())
    if not partly and not any(getattr(reporter, "combines_coverage", False) for reporter in given):
        all_of_them.add(CoverageFile(settings, os.environ))
    with (
        _reported_to(all_of_them, settings.run_id or ""),
        _fleet_for(settings, origins, environ) as place,
    ):
        return _dispatch(place, all_of_them, interrupted, task, environ)


def warm_workers(
    settings: Settings,
    origins: Mapping[str, str],
    reporters: Iterable[Reporter],
    interrupted: Callable[[], bool],
) -> Warmed:
    """Has the workers prepare for these settings. Raises DctError if none is ready."""
    from dct_celery.adapters.source.snapshot import find_root
    from dct_celery.dispatcher.lifecycle import RunLifecycle
    from dct_celery.reports.reporter import Reporters

    all_of_them = Reporters(list(reporters))
    with (
        _reported_to(all_of_them, settings.run_id or ""),
        _fleet_for(settings, origins) as place,
    ):
        request = new_request(place.settings, find_root(Path(place.settings.project_dir)))
        services = _dispatcher_services(
            place.settings, place.origins, request, all_of_them.take, interrupted
        )
        return RunLifecycle(services, request).warm()


@contextlib.contextmanager
def _reported_to(reporters: Reporters, run: str) -> Iterator[None]:
    """Around a run: reports its beginning and, on every way out, its end."""
    reporters.take(reporting.RunBegan(run))
    try:
        yield
    except Superseded:
        raise  # the run goes on elsewhere, and its reports with it
    except BaseException as error:
        reporters.take(reporting.Failed(*report_files.reason(error)))
        raise
    finally:
        reporters.take(reporting.Closed())


@contextlib.contextmanager
def _fleet_for(
    settings: Settings, origins: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> Iterator[Place]:
    """The slots that these settings ask for: those of the pool, or of this machine while this
    lasts. Raises ConfigError without a project, UsageError.
    """
    from dct_celery.dispatcher.request import require_project

    require_project(settings, os.environ)
    if settings.local is None and settings.local_fallback is None:
        yield Place(settings, dict(origins))
        return
    from dct_celery.adapters.local_fleet import Standby, local_fleet
    from dct_celery.adapters.local_timings import FileTimings

    if settings.log_file:
        log = Path(settings.project_dir, settings.log_file)
        outputs.check_writable(log, origins.get("log_file", ""))
    environ = os.environ if environ is None else environ
    if settings.local is None:
        with Standby(settings, environ) as standby:
            yield Place(settings, dict(origins), fall_back=standby.start)
        return
    if settings.local_fallback is not None:
        places = (
            f"{origins.get('local', '--local')} and"
            f" {origins.get('local_fallback', '--local-fallback')}"
        )
        raise UsageError(
            f"{places} exclude each other: a local run has no fleet to wait for; remove one"
        )
    # Its store ends with it; what runs learn of the project does not.
    timings = partial(FileTimings, state_folder(os.environ) / "timings")
    slots, notice = settings.local, ""
    if not slots:
        found = room()
        slots = settings.capped(settings.room(found.count))
        notice = f"local: {found.reason}" if slots == found.count else ""
    local = replace(settings, local=slots)
    with local_fleet(local, settings.capped(slots), environ) as fleet:
        yield Place(
            fleet.settings,
            {**origins, **fleet.origins},
            notice=notice,
            failure=fleet.failure,
            timings=timings,
        )


def list_files(settings: Settings) -> tuple[list[str], list[str]]:
    """`dct run --list-files`: lines and warnings for the terminal. Raises UsageError."""
    from dct_celery.adapters.source import snapshot

    root = snapshot.find_root(Path(settings.project_dir))
    taken = snapshot.take(root, _selection(settings, root))
    return list(snapshot.listing(taken)), list(snapshot.warnings(taken))


def _dispatch(
    place: Place,
    reporters: Reporters,
    interrupted: Callable[[], bool],
    task: Task,
    environ: Mapping[str, str] | None,
) -> RunReport:
    from dct_celery.adapters.source.snapshot import find_root
    from dct_celery.dispatcher.lifecycle import RunLifecycle
    from dct_celery.dispatcher.timing_files import TimingFiles
    from dct_celery.reports import file_reporters

    settings, origins = place.settings, place.origins
    file_reporters.check(settings, origins)
    files = TimingFiles.of(settings, origins)
    root = find_root(Path(settings.project_dir))
    request = task.request or new_request(settings, root, environ)
    request = request if task.part is None else replace(request, part=task.part)
    services = _dispatcher_services(
        settings, origins, request, reporters.take, interrupted, task.written, environ
    )
    services = replace(
        services,
        fleet_failure=place.failure,
        fall_back=place.fall_back,
        timings=place.timings or services.timings,
        timing_files=files,
        snapshot=_compared(services, task),
    )
    opening = task.opening if task.request is not None else recognised(settings, origins)
    for text in filter(None, (opening, place.notice)):
        services.report(Notice(text))
    return RunLifecycle(services, request).run()


def new_request(
    settings: Settings, root: Path, environ: Mapping[str, str] | None = None
) -> Request:
    """What these settings ask for, with the seeds that chance decides. Raises ConfigError."""
    from dct_celery.dispatcher.request import make_request

    environ = os.environ if environ is None else environ
    seed = random.randint(0, 2**32 - 1) if settings.shuffle == "auto" else settings.shuffle
    hash_seed = environ.get("PYTHONHASHSEED") or str(random.randint(1, 2**32 - 1))
    if settings.backend == PYTEST:
        settings = replace(settings, labels=_with_input(settings))
    return make_request(settings, root, environ, seed, hash_seed)


def _with_input(settings: Settings) -> tuple[str, ...]:
    """pytest's words behind what all processes of the run are to share, unless that is there."""
    from dct_celery.wire.pytest_reports import Input, split_arguments

    given, words = split_arguments(settings.labels)
    own = Input(
        testrunuid=secrets.token_hex(16),
        workercount=settings.local or os.cpu_count() or 1,
        mainargv=("pytest", *words),
        seed=random.randint(0, 2**32 - 1),
    )
    return ((given or own).argument(), *words)


def recognised(settings: Settings, origins: Mapping[str, str]) -> str:
    """A line for people, if the backend was not chosen by them; else empty."""
    origin = origins.get("backend", "")
    return f"backend: {settings.backend}, {origin}" if origin.startswith(RECOGNISED) else ""


def _compared(
    services: DispatcherServices, task: Task
) -> Callable[[Path, BlobStore], tuple[TakenSnapshot, int, int]]:
    """Takes the snapshot as `services` do, and says so if the code is another than it was."""

    def take(root: Path, blobs: BlobStore) -> tuple[TakenSnapshot, int, int]:
        taken = services.snapshot(root, blobs)
        if task.tree not in ("", taken[0].digest):
            line = f"the code has changed since run {task.earlier}; what runs is the present code"
            services.report(Warned(line))
            task.changed(line)
        return taken

    return take


def attach_run(
    settings: Settings,
    origins: Mapping[str, str],
    run: str,
    given: frozenset[str],
    reporters: Iterable[Reporter],
    interrupted: Callable[[], bool],
) -> RunReport:
    """Goes on with a run whose dispatcher died, and returns its report.

    `given`: names of settings that replace those of the run. Raises UsageError if there is nothing
    to adopt, StoreUnavailable.
    """
    from dct_celery.core.ids import is_run_id
    from dct_celery.reports.reporter import Reporters

    if not is_run_id(run):  # it names a journal
        raise UsageError(f"{run!r} is no id of a run; dct status names those that go on")
    all_of_them = Reporters(reporters)
    try:
        return _attach(
            replace(settings, run_id=run), dict(origins), given, all_of_them, interrupted
        )
    finally:
        all_of_them.take(reporting.Closed())


def _attach(
    settings: Settings,
    origins: dict[str, str],
    given: frozenset[str],
    reporters: Reporters,
    interrupted: Callable[[], bool],
) -> RunReport:
    from dct_celery.dispatcher.adopt import adopt
    from dct_celery.dispatcher.lifecycle import RunLifecycle
    from dct_celery.dispatcher.timing_files import TimingFiles
    from dct_celery.reports import file_reporters
    from dct_celery.reports.coverage_file import CoverageFile
    from dct_celery.reports.kept_files import KeptFilesHome

    services = _dispatcher_services(settings, origins, None, reporters.take, interrupted)
    adopted = adopt(services)
    request = adopted.snapshot.request
    settings = adopted.snapshot.to_settings(settings, given)
    # Their time was the beginning of the run.
    settings = replace(settings, import_timings=None, import_timings_csv=None)
    unnamed = dict.fromkeys(OUTPUTS, "the run's own setting")
    file_reporters.check(settings, {**unnamed, **origins})
    files = TimingFiles.of(
        settings, {**unnamed, **origins}, spare=lambda line: services.report(Warned(line))
    )
    # Only now is it known where its reports go.
    home = (CoverageFile(settings, os.environ), KeptFilesHome())
    for file in (*file_reporters.all_of(settings, time.time), *home):
        reporters.add(file)
    upload = _upload(settings, Path(request.root), services.report, _folders(request))
    services = replace(
        services,
        settings=settings,
        timing_files=files,
        snapshot=upload.send,
        supply_code=partial(upload.supply, services.blobs),
        hint=upload.hint,
    )
    if folder := file_reporters.artifact_folder(settings):
        has_artifact = partial(folder.has, since=adopted.snapshot.began)
        services = replace(services, has_artifact=has_artifact)
    return RunLifecycle(services, request).go_on(adopted)


def _dispatcher_services(
    settings: Settings,
    origins: dict[str, str],
    request: Request | None,
    report: Callable[[ReportEvent], None],
    interrupted: Callable[[], bool],
    written: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> DispatcherServices:
    from dct_celery.adapters.addresses import resolve
    from dct_celery.adapters.process import PipeProcess, user_environment
    from dct_celery.adapters.redisstore import blobs, client, ledger, registry
    from dct_celery.adapters.source.snapshot import changed_files
    from dct_celery.bootstrap.keys import INSECURE, keyring_of
    from dct_celery.dispatcher.services import DispatcherServices
    from dct_celery.protocol.door import Door

    environ = os.environ if environ is None else environ
    run = settings.run_id or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    pool = Door.of_pool(keyring_of(settings), settings.pool)
    masking.PROCESS.learn(settings.secrets())  # those of a local fleet were made just now
    store = client.connect(settings.store)
    checked = client.check(store, settings.store, origins.get("store", "store"))
    insecure = () if pool.keyring.secure else (INSECURE,)
    for warning in (*insecure, *warnings_of(os.environ, Path.cwd()), *checked.warnings):
        report(Warned(warning))
    state = state_folder(os.environ)
    nonce = secrets.token_hex(8)
    door = pool.of_run(run, nonce)
    if request is None:
        nonce, door = _known_run(store, run, pool, state)
    root = Path(request.root if request is not None else settings.project_dir)
    folders = _folders(request) if request is not None else ()
    upload = _upload(settings, root, report, folders, written)
    code = blobs.RedisBlobs(store)
    if settings.broker != settings.store and (untried := parse(settings.broker).insecure):
        report(Warned(f"the broker at {redact(settings.broker)}: {untried}"))
    queue = _LateQueue(partial(_chunk_queue, settings, run, origins.get("broker", "broker")))
    return DispatcherServices(
        settings=settings,
        run=run,
        nonce=nonce,
        owner=secrets.token_hex(8),
        door=door,
        pool_door=pool,
        clock=time.monotonic,
        wall=time.time,
        sleep=time.sleep,
        store_ms=lambda: int(client.now(store) * 1000),
        registry=registry.RedisRegistry(store, settings.pool, pool),
        ledger=ledger.RedisLedger(store, run, door),
        queue=queue,
        broker=queue.identity,
        blobs=code,
        files=blobs.RedisBlobs(store, run),
        timings=partial(blobs.RedisTimings, store),
        report=report,
        state_folder=state,
        environ=dict(environ),
        start_process=PipeProcess,
        user_environment=partial(user_environment, dict(environ)),
        snapshot=upload.send,
        supply_code=partial(upload.supply, code),
        hint=upload.hint,
        changed_files=partial(changed_files, root),
        resolve=resolve,
        interrupted=interrupted,
    )


def _known_run(store: Any, run: str, pool: Door, state_folder: Path) -> tuple[str, Door]:
    """Nonce and door of a run that has begun, from the store, else from this machine's journal."""
    from dct_celery.adapters.redisstore import ledger
    from dct_celery.dispatcher.run_snapshot import nonce_in_journal

    candidates = [ledger.stored_run(store, run), nonce_in_journal(state_folder / "runs", run)]
    for nonce, key in candidates:
        door = pool.of_run(run, nonce, key)
        with contextlib.suppress(Untrusted):
            if nonce and ledger.RedisLedger(store, run, door).spec() is not None:
                return nonce, door
    # The store has no valid specification. The journal's signature is verified when it is read.
    nonce, key = next((one for one in reversed(candidates) if one[0]), ("0" * 16, ""))
    return nonce, pool.of_run(run, nonce, key)


def _chunk_queue(settings: Settings, run: str, origin: str) -> ChunkQueue:
    from dct_celery.adapters.celeryqueue.app import make_app
    from dct_celery.adapters.celeryqueue.queue import CeleryChunkQueue

    return CeleryChunkQueue(make_app(settings), run, origin)


class _LateQueue:
    """A queue that is made on first use, so that the run is announced before Celery is imported."""

    def __init__(self, make: Callable[[], ChunkQueue]) -> None:
        self._made = functools.cache(make)

    def check(self) -> None:
        self._made().check()

    def identity(self) -> str:
        """Empty where the broker is away."""
        with contextlib.suppress(BrokerUnavailable):
            return self._made().identity()
        return ""

    def publish(self, *texts: str) -> None:
        self._made().publish(*texts)

    def purge(self) -> None:
        self._made().purge()


def _folders(request: Request) -> tuple[str, ...]:
    """Below the root, where the project's modules and files are looked for."""
    return (*request.sys_path, request.directory)


def _upload(
    settings: Settings,
    root: Path,
    report: Callable[[ReportEvent], None],
    folders: Sequence[str] = (),
    written: Sequence[str] = (),
) -> Upload:
    from dct_celery.adapters.source.upload import Upload

    def warn(text: str) -> None:
        report(Warned(text))

    return Upload(
        _selection(settings, root, written),
        time.monotonic,
        warn,
        prove_only=settings.code == "checkout",
        stays_here=settings.local is not None,
        folders=folders,
    )


def _selection(settings: Settings, root: Path, written: Sequence[str] = ()) -> Selection:
    """Which files are sent besides those of git. Reports (`written`: of an earlier run) and a local
    worker's folder never are.
    """
    from dct_celery.adapters.source.snapshot import Selection
    from dct_celery.core.globs import Globs

    project = Path(settings.project_dir)
    top = os.path.realpath(root)
    ours = (
        os.path.realpath(project / path)
        for path in (*(getattr(settings, name) for name in OUTPUTS), settings.work_dir, *written)
        if path
    )
    relative = frozenset(os.path.relpath(path, top) for path in ours)
    return Selection(Globs(settings.include), Globs(settings.exclude), relative)
