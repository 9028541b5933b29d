"""A small `.git` that answers what settings and version modules ask of the real one.

    git rev-parse HEAD · git describe --tags --dirty · git branch · git log -1 · git status

It has all commits, the folders of HEAD, the current branch, the tags, and an index without times,
but no file's content (targets of links apart), no remote, and no configuration of its user.
`describe` counts commits, so that a part of them would give another answer. It is only made for
projects whose code mentions git, and always the same for the same state, so that equal trees stay
equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Container, Mapping
from pathlib import Path

#: Files whose content may say that git is asked, and how.
_ASKING = (".py", ".toml", ".cfg")
_ASKS = re.compile(
    rb"""["']git["' ]|\bgit (?:rev-parse|rev-list|describe|log|show|branch|status|tag)\b"""
    rb"""|^\s*(?:import git\b|from git import)|\.git/(?:HEAD|refs)|["']\.git["']"""
    rb"|setuptools[_-]scm|hatch-vcs|versioningit|versioneer|dulwich|pygit2",
    re.MULTILINE,
)
#: One of these is in every text that matches, and is found far faster.
_WORDS = (b"git", b"setuptools", b"hatch-vcs", b"version", b"dulwich")
#: With more commits than this, some 3 MB, there is no `.git`.
_MOST_COMMITS = 10_000
_SECONDS = 60.0
_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
#: git wants this folder, whether or not there is anything in it.
FOLDER = ".git/refs"


class _Failed(Exception):
    """git has no answer."""


def asks(root: Path, path: str) -> bool:
    """Whether this file of the project may ask git for something."""
    if not path.endswith(_ASKING):
        return False
    content = (root / path).read_bytes()
    return any(word in content for word in _WORDS) and _ASKS.search(content) is not None


def files(root: Path) -> dict[str, bytes]:
    """Path below the root -> content; empty where git cannot tell, as before the first commit."""
    try:
        return _Repository(root).files()
    except (_Failed, OSError, subprocess.SubprocessError):
        return {}


class _Repository:
    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self) -> dict[str, bytes]:
        if self._line("rev-parse", "--show-object-format") != "sha1":
            raise _Failed("a repository of another format")
        head, branch = self._line("rev-parse", "--verify", "HEAD"), ""
        with contextlib.suppress(_Failed):
            branch = self._line("symbolic-ref", "-q", "HEAD")
        if int(self._line("rev-list", "--count", f"--max-count={_MOST_COMMITS + 1}", head)) > (
            _MOST_COMMITS
        ):
            raise _Failed("it has too many commits")
        commits = set(self._git("rev-list", head).decode().split())
        tags = self._tags(commits)
        refs = {**tags, branch: (head, "")} if branch else tags
        found = {
            ".git/HEAD": f"ref: {branch}\n".encode() if branch else f"{head}\n".encode(),
            ".git/config": _CONFIG,
            ".git/packed-refs": _packed(refs),
        }
        # A shallow clone, as CI has it, stays one.
        with contextlib.suppress(OSError):
            shallow = self._root / self._line("rev-parse", "--git-path", "shallow")
            found[".git/shallow"] = shallow.read_bytes()
        return {**found, **self._pack({*commits, *(name for name, _ in tags.values())}, head)}

    def _tags(self, commits: Container[str]) -> dict[str, tuple[str, str]]:
        """Name of each tag of these commits -> its object, and its commit if that is another."""
        form = "%(refname) %(objectname) %(*objectname)"
        rows = self._git("for-each-ref", f"--format={form}", "refs/tags").decode().splitlines()
        found = {}
        for row in rows:
            name, one, commit = [*row.split(" "), ""][:3]
            if (commit or one) in commits:
                found[name] = (one, commit)
        return found

    def _pack(self, names: set[str], head: str) -> dict[str, bytes]:
        """These objects and the folders of HEAD as a pack, and an index of the files of HEAD."""
        folders = self._git(
            "rev-list", "--objects", "--no-object-names", "--filter=blob:none", "--no-walk", head
        )
        # git compares a link with its target in the repository, everything else by hashes.
        rows = self._git("ls-tree", "-r", "-z", head).split(b"\0")
        links = {row.split()[2].decode() for row in rows if row.startswith(b"120000 ")}
        objects = sorted(names | links | set(folders.decode().split()))
        # Nothing here may depend on how the objects are stored at present.
        pack = self._git(
            "pack-objects", "--stdout", "-q", "--no-reuse-delta", "--no-reuse-object",
            "--window=0", "--threads=1", given="".join(f"{one}\n" for one in objects),
        )  # fmt: skip
        name = f".git/objects/pack/pack-{hashlib.sha1(pack, usedforsecurity=False).hexdigest()}"
        with tempfile.TemporaryDirectory() as made:
            (Path(made) / "it.pack").write_bytes(pack)
            self._git("index-pack", "-o", f"{made}/it.idx", f"{made}/it.pack")
            self._git("read-tree", head, env={"GIT_INDEX_FILE": f"{made}/index"})
            return {
                f"{name}.pack": pack,
                f"{name}.idx": (Path(made) / "it.idx").read_bytes(),
                ".git/index": (Path(made) / "index").read_bytes(),
            }

    def _line(self, *words: str) -> str:
        return self._git(*words).decode().strip()

    def _git(self, *words: str, given: str = "", env: Mapping[str, str] | None = None) -> bytes:
        """Raises _Failed."""
        done = subprocess.run(
            ["git", "-C", str(self._root), *words],
            input=given.encode(),
            env={**os.environ, **(env or {})},
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
        if done.returncode != 0:
            raise _Failed(done.stderr.decode(errors="replace"))
        return done.stdout


def _packed(refs: Mapping[str, tuple[str, str]]) -> bytes:
    lines = ["# pack-refs with: peeled fully-peeled sorted "]
    for name, (one, commit) in sorted(refs.items()):
        lines += [f"{one} {name}", *([f"^{commit}"] if commit else [])]
    return "".join(f"{line}\n" for line in lines).encode()
