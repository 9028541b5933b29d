"""The work folder of a worker: all files that main process, slots and test processes share."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dct_celery.core import codec
from dct_celery.core.codec import Count
from dct_celery.core.ids import is_run_id, is_template_key
from dct_celery.errors import InfrastructureError, Untrusted
from dct_celery.ports import DatabaseSpec
from dct_celery.protocol.door import parse
from dct_celery.security.files import write_private
from dct_celery.security.folders import remove_below
from dct_celery.wire.process import LOADER_TMPDIR
from dct_celery.worker.folders.clone_folder import CloneFolder

#: Database servers that are remembered.
_SERVERS = 20


#: How the names of the forks' temporary folders begin.
_TEMPORARY = "dct-fork-"
#: Name of the folder in a fork's folder that holds what the fork has written into the tree.
_LAYER = "layer"
#: Part of it; see testproc.isolation.private_tree.
_LAYER_OF_TEMPORARY = "tmp"
_LOADER_TEMPORARY = "loader-tmp"


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """What slots need to run chunks of a run, in a file that only the owner may read."""

    #: Of the run's announcement: with them its messages are verified and signed.
    nonce: str
    signing_key: str
    specs: tuple[DatabaseSpec, ...]
    #: Key of the templates.
    key: str
    #: Of this preparation of the run, which has its own databases.
    owner: str
    #: Primary alias -> file with the serialized contents of the template.
    serialized: dict[str, str] = field(default_factory=dict)
    #: Seconds, by the run's options; None for the usual limits, 0 for none.
    test_timeout: float | None = None
    fixture_timeout: float | None = None
    #: Slots that the database servers have room for.
    slots: Count = 1
    #: Files that tests leave are sent to the dispatcher.
    artifacts: bool = False
    #: Coverage is measured, and its data are sent to the dispatcher.
    measured: bool = False
    #: Globs below the top of the tree: files that come home.
    artifact_paths: tuple[str, ...] = ()
    #: What tests use is counted.
    metrics: bool = False


class RunFolder:
    """One run on one worker: the files between its main process and its slots. Only the owner may
    read it: it holds database passwords.
    """

    def __init__(self, path: Path, base: Path | None = None) -> None:
        """`base`: the folder of ours that nothing here may leave."""
        self.path = path
        self.clones = CloneFolder(path)
        self._base = base or path.parent

    def create(self) -> None:
        for name in ("", "slots", "spool", "done", "permits", "backoff"):
            (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.clones.create()

    @property
    def fork_fifo(self) -> Path:
        return self.path / "fork.fifo"

    @property
    def loader_log(self) -> Path:
        return self.path / "loader.log"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    def note_done(self, attempt: str, epoch: int) -> None:
        """A slot of this worker ran this attempt to its end; the store knows since this epoch."""
        (self.path / "done" / attempt).write_text(str(epoch))

    def done(self, attempt: str) -> int:
        """The epoch in which it ran to its end here, or 0; only a newer one may offer it again."""
        try:
            return int((self.path / "done" / attempt).read_text())
        except (OSError, ValueError):
            return 0

    @property
    def permits(self) -> Path:
        """Locks of the slots that the database servers have room for; see
        `worker.health.slot_backoff`.
        """
        return self.path / "permits"

    @property
    def backoff(self) -> Path:
        """A file for each slot that backs off."""
        return self.path / "backoff"

    def fork_folder(self, name: str) -> Path:
        """A new folder for one fork; its FIFOs, log and status."""
        # A pool child that follows a killed one counts its forks from the beginning: the name alone
        # is not new.
        (self.path / "slots").mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.path / "slots"))

    def temporary(self, fork: Path) -> Path:
        """A fork's own TMPDIR. Its path is short, as that of the usual one is: tests keep files
        from there in columns of 100 characters, and sockets in paths of 108. It goes with the run's
        folder.
        """
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY))
        (fork / "tmp").symlink_to(folder)
        return folder

    def loader_temporary(self) -> Path:
        """The folder that has the loader's TMPDIR, both made at the first call; as short as those
        of the forks. It is one below, as nobody can remove a folder that a fork has for itself.
        """
        link = self.path / _LOADER_TEMPORARY
        if not link.is_symlink():
            link.symlink_to(tempfile.mkdtemp(prefix=_TEMPORARY))
        folder = Path(os.readlink(link))
        (folder / LOADER_TMPDIR).mkdir(mode=0o700, exist_ok=True)
        return folder

    def layer(self, fork: Path) -> Path:
        """Where a fork's own view of the tree keeps what is written into it: a new folder."""
        folder = fork / _LAYER
        folder.mkdir(mode=0o700)
        return folder

    def remove_layer(self, fork: Path) -> None:
        """To be called when the fork has ended; does nothing where there is none."""
        for part in ("", _LAYER_OF_TEMPORARY):
            with contextlib.suppress(OSError):
                # The kernel lets nobody into this folder of its own.
                (fork / _LAYER / part / "work" / "work").chmod(0o700)
        remove_below(self._base, fork / _LAYER)

    def artifacts(self, slot: int) -> Path:
        """Where the slot's test process puts files for the dispatcher."""
        return self.path / "artifacts" / str(slot)

    def cache(self, slot: int) -> Path:
        """The slot's own ~/.cache: what lies in the user's is there, through links; what is new in
        it is the slot's alone.
        """
        folder = self.path / "caches" / str(slot)
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True)
            with contextlib.suppress(OSError, RuntimeError):  # no such folder, or no home
                for entry in os.scandir(Path.home() / ".cache"):
                    (folder / entry.name).symlink_to(entry.path)
        return folder

    # -- from the host to the slots --------------------------------------------------

    def publish(self, state: PublishedRun) -> None:
        write_private(self.path / "host.json", codec.dumps(state))

    def published(self) -> PublishedRun | None:
        try:
            return parse(PublishedRun, (self.path / "host.json").read_text())
        except (OSError, UnicodeDecodeError, Untrusted):
            return None

    def refuse(self, line: str) -> None:
        """Called by a slot that finds out why this worker cannot take part; the main process
        reports it.
        """
        write_private(self.path / "refusal", line)

    @property
    def refusal(self) -> str:
        """Empty as long as no slot has found anything."""
        try:
            return (self.path / "refusal").read_text()
        except OSError:
            return ""

    def note_attached(self) -> None:
        """A test process of some slot is ready for tests."""
        (self.path / "attached").touch()

    @property
    def attached(self) -> bool:
        """Some slot has had a test process that was ready."""
        return (self.path / "attached").exists()

    def note_session(self, slot: int, *, lasts: bool) -> None:
        """Whether the slot's test process has fixtures of the session to tear down."""
        mark = self.path / "sessions" / str(slot)
        if lasts:
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
        else:
            mark.unlink(missing_ok=True)

    @property
    def has_sessions(self) -> bool:
        """Some slot's test process has."""
        with contextlib.suppress(OSError):
            return any((self.path / "sessions").iterdir())
        return False

    def unpublish(self) -> None:
        """No slot is to begin anything."""
        (self.path / "host.json").unlink(missing_ok=True)

    def end(self) -> None:
        """The run is over on this worker: its slots leave it."""
        if self.path.is_dir():
            (self.path / "over").touch()

    @property
    def over(self) -> bool:
        return not self.path.is_dir() or (self.path / "over").exists()

    def remove(self) -> None:
        for link in (self.path / _LOADER_TEMPORARY, *self.path.glob("slots/*/tmp")):
            _remove_temporary(link)
        for layer in self.path.glob(f"slots/*/{_LAYER}"):
            self.remove_layer(layer.parent)
        remove_below(self._base, self.path)


def _remove_temporary(link: Path) -> None:
    """Only ever a folder that `temporary` has made, whatever the link says by now."""
    with contextlib.suppress(OSError):
        target = Path(os.readlink(link))
        ours = target.parent == Path(tempfile.gettempdir()) and target.name.startswith(_TEMPORARY)
        if ours and not target.is_symlink() and target.stat().st_uid == os.getuid():
            remove_below(target.parent, target)


class WorkFolder:
    """The worker's folder, which no other worker uses at the same time."""

    def __init__(self, base: Path) -> None:
        self.base = base

    @property
    def trees(self) -> Path:
        return self.base / "trees"

    @property
    def runs(self) -> Path:
        return self.base / "runs"

    def run(self, run: str) -> RunFolder:
        """Raises InfrastructureError for what is no id of a run: the registry and messages are
        written by others.
        """
        if not is_run_id(run):
            raise InfrastructureError(f"{run[:60]!r} is no id of a run")
        return RunFolder(self.runs / run, self.base)

    def leftovers(self) -> Iterator[RunFolder]:
        """Runs of an earlier life of this worker."""
        for path in self.runs.iterdir() if self.runs.is_dir() else ():
            yield RunFolder(path, self.base)

    @property
    def draining(self) -> Path:
        return self.base / "draining"

    @property
    def ended(self) -> Path:
        """Runs that are over for this worker; see `worker.host.ended_runs`."""
        return self.base / "ended.json"

    @property
    def failures(self) -> Path:
        """Infrastructure failures since the last success; see `worker.health.circuit_breaker`."""
        return self.base / "failures"

    @property
    def sqlite(self) -> Path:
        """Templates and clones of SQLite databases; they outlive their run."""
        return self.base / "sqlite"

    def prune_template_caches(self, oldest: float) -> None:
        """Removes those that were last used before `oldest` (Unix seconds)."""
        for folder in (self.base / "templates").glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if folder.stat().st_mtime < oldest:
                    remove_below(self.base, folder)

    def template_cache(self, key: str) -> Path:
        """What belongs to the templates of this key: exported databases, serialized contents."""
        if not is_template_key(key):
            raise InfrastructureError(f"{key[:60]!r} is no key of a template")
        return self.base / "templates" / key[:32]

    def remember_servers(self, specs: Iterable[DatabaseSpec]) -> None:
        """Keeps how to reach the database servers of a run, so that a later life of this worker can
        collect what this one leaves there if it is killed. The file holds passwords; only the owner
        may read it.
        """
        known: dict[str, DatabaseSpec] = {}
        for spec in [*self.servers(), *specs]:
            address = json.dumps(_address(spec), sort_keys=True)
            known.pop(address, None)  # the latest ones come last
            known[address] = spec
        write_private(self.base / "servers.json", codec.dumps(list(known.values())[-_SERVERS:]))

    def servers(self) -> list[DatabaseSpec]:
        """One database specification per server that this worker has used."""
        try:
            rows = codec.loads((self.base / "servers.json").read_text())
        except (OSError, UnicodeDecodeError, codec.Malformed):
            return []
        found = []
        for row in rows if isinstance(rows, list) else ():
            with contextlib.suppress(codec.Malformed):  # another version may have written it
                found.append(codec.decode(DatabaseSpec, row))
        return found


def _address(spec: DatabaseSpec) -> list[Any]:
    return [spec.vendor, spec.host, spec.port, spec.user, dict(spec.options)]
