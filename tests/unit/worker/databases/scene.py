"""One database server in memory with a project whose forks build, flush and check on it: what
templates and clones need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from dct_celery.ports import DatabaseSpec
from dct_celery.settings import Settings
from dct_celery.wire import messages
from dct_celery.worker.databases import retries
from dct_celery.worker.databases.clone_maker import CloneMaker
from dct_celery.worker.databases.clone_pool import ClonePool
from dct_celery.worker.databases.liveness import LivenessLocks
from dct_celery.worker.databases.naming import CloneNaming
from dct_celery.worker.databases.templates import Fork, Templates
from dct_celery.worker.folders.work_folder import RunFolder
from tests.support.fake_clock import FakeClock
from tests.support.memory_database import BOOKS, MemoryDatabases, MemoryServer

KEY = "0123456789abcdef" * 4


@dataclass
class HealingServer(MemoryServer):
    """As slow at cloning as MySQL."""

    def __init__(self, world: MemoryDatabases) -> None:
        super().__init__(world)
        self.heals = False

    def heals_cheaper(self, template: str) -> bool:
        return self.heals


@dataclass
class Project:
    """What the user's process does when it is asked; each question is noted by its kind."""

    world: MemoryDatabases
    asked: list[str] = field(default_factory=list)
    #: Answers with Fatal: kind -> message.
    failing: dict[str, str] = field(default_factory=dict)
    reason: str = "template"
    #: Why its databases cannot be flushed.
    unflushable: str = ""

    def fork(self, purpose: str) -> Project:
        return self

    def finish(self, grace: float) -> None: ...

    def ask(
        self, question: messages.Message, kind: type, timeout: float, watch: object = None
    ) -> messages.Message:
        self.asked.append(question.kind)
        if isinstance(question, messages.Build):
            for name in question.databases.values():
                self.world.create(name)
        if question.kind in self.failing:
            return messages.Fatal(self.reason, self.failing[question.kind], "its output")
        if isinstance(question, messages.Flush):
            for alias in () if self.unflushable else question.aliases:
                self.world.databases[question.databases[alias]].rows.clear()
        if isinstance(question, messages.Serialize):
            for path in question.files.values():
                Path(path).write_text("[]")
        if isinstance(question, messages.Flush):
            return messages.Flushed(0.1, self.unflushable)
        return messages.Goodbye()


class WorkerScene:
    """A worker's view. `world` and `project` may be shared by several."""

    def __init__(
        self,
        folder: Path,
        *,
        run: str = "run-1",
        world: MemoryDatabases | None = None,
        aliases: Sequence[str] = ("default",),
    ):
        self.world = world or MemoryDatabases()
        self.project = Project(self.world)
        self.specs = [DatabaseSpec(alias, "postgresql", "shop") for alias in aliases]
        self.servers = {alias: HealingServer(self.world) for alias in aliases}
        self.clock = FakeClock()
        self.liveness = LivenessLocks(self.clock)
        self.naming = CloneNaming(run, "build-a@host", f"owner-of-{run}", keep_days=14)
        for alias, server in self.servers.items():
            self.liveness.give(alias, server.liveness_lock(self.naming.owner))
        fork = cast(Fork, self.project.fork)
        self.templates = Templates(
            KEY,
            self.specs,
            self.servers,
            fork,
            folder / "cache",
            self.naming,
            self.clock,
            self.liveness,
        )
        self.folder = RunFolder(folder / run)
        self.folder.create()

    def pool(self, **more: Any) -> ClonePool:
        options = {"slots": 2, "flushes": frozenset(), **more}
        maker = self.maker("p")
        return ClonePool(
            self.templates,
            self.specs,
            self.servers,
            self.folder.clones,
            maker,
            self.clock,
            **options,
        )

    def maker(self, place: int | str = "p") -> CloneMaker:
        return CloneMaker(
            self.templates,
            self.servers,
            self.folder.clones,
            self.naming,
            self.clock,
            place,
            retries.of_copy(Settings()),
        )

    def kinds(self) -> dict[str, int]:
        """How many databases of each kind there are."""
        marks = [one.mark.kind if one.mark else "unmarked" for one in self.world.databases.values()]
        return {kind: marks.count(kind) for kind in sorted(set(marks))}

    def spoil(self, name: str) -> None:
        self.world.databases[name].rows.append(("spoiled",))


__all__ = ["BOOKS", "KEY", "WorkerScene"]
