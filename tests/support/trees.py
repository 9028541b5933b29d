"""Code in a blob store in memory, as a dispatcher sends it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from dct_celery.adapters.source import snapshot
from dct_celery.adapters.source.index import Index
from dct_celery.adapters.source.tree import Trees
from dct_celery.core.ids import digest_of
from tests.support.memory_ledger import MemoryBlobs, MemoryStore


def make_tree(root: Path) -> Path:
    """A small project: a module, a script and a link."""
    (root / "app").mkdir(parents=True)
    (root / "app" / "code.py").write_text("x = 1\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("app/code.py")
    return root


def git(root: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@t", *words],
        check=True,
        capture_output=True,
    )


class Clock:
    """Advances when `sleep` is called; then `meanwhile` happens."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.meanwhile: Any = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


class Sent:
    """A store with trees in it, and a worker's trees below `base`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.store = MemoryStore()
        self.blobs = MemoryBlobs(self.store)
        self.clock = Clock()
        #: Runs that go on.
        self.alive: set[str] = set()
        self.trees = self.restarted()

    def restarted(self) -> Trees:
        """The trees as a worker that was started again sees them."""
        return Trees(
            self.base, self.blobs, self.alive.__contains__, clock=self.clock, sleep=self.clock.sleep
        )

    def send(self, root: Path) -> str:
        taken = snapshot.take(root)
        self.blobs.put((file.digest, snapshot.content(root, file)) for file in taken.index.files)
        return self.send_index(taken.index.encode())

    def send_index(self, content: bytes | Index) -> str:
        content = content.encode() if isinstance(content, Index) else content
        self.blobs.put([(digest_of(content), content)])
        return digest_of(content)
