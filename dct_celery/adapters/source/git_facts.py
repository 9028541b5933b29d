"""A small `.git` that answers what settings and version modules ask of the real one.

    git rev-parse HEAD · git describe --tags --dirty · git branch · git log -1 · git status

It has the commits since the last tags (all, in a small repository), the folders of HEAD, the current
branch, these tags, and an index without times, but no file's content, no remote, no configuration of
its user. It is only made for projects whose code mentions git, and always the same for the same
state, so that equal trees stay equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

#: Files whose content may say that git is asked, and how.
_ASKING = (".py", ".toml", ".cfg")
_ASKS = re.compile(
    rb"""["']git["' ]|\bgit (?:rev-parse|rev-list|describe|log|show|branch|status|tag)\b"""
    rb"""|^\s*(?:import git\b|from git import)|\.git/(?:HEAD|refs)|["']\.git["']"""
    rb"|setuptools[_-]scm|hatch-vcs|versioningit|versioneer|dulwich|pygit2",
    re.MULTILINE,
)
#: A repository with at most this many commits is sent with all of them: they can be counted.
_ALL_COMMITS = 2_000
#: With more commits than this since the last tag, there is no `.git`.
_MOST_COMMITS = 20_000
#: Commits of a large repository without tags.
_FEW_COMMITS = 50
_SECONDS = 60.0
_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
#: git wants this folder, whether or not there is anything in it.
FOLDER = ".git/refs"


class _Failed(Exception):
    """git has no answer."""


def asks(path: str, content: bytes) -> bool:
    """Whether this file of the project may ask git for something."""
    return path.endswith(_ASKING) and _ASKS.search(content) is not None


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
        commits = self._commits(head)
        tags = self._tags(commits)
        refs = {**tags, branch: (head, "")} if branch else tags
        found = {
            ".git/HEAD": f"ref: {branch}\n".encode() if branch else f"{head}\n".encode(),
            ".git/config": _CONFIG,
            ".git/packed-refs": _packed(refs),
        }
        boundary = sorted(one for one, parents in commits.items() if not parents <= commits.keys())
        if boundary:
            found[".git/shallow"] = "".join(f"{one}\n" for one in boundary).encode()
        return {**found, **self._pack([*commits, *(name for name, _ in tags.values())], head)}

    def _commits(self, head: str) -> dict[str, set[str]]:
        """Commit -> its parents: all, or those that `git describe` counts."""
        limit = f"--max-count={_ALL_COMMITS + 1}"
        if int(self._line("rev-list", "--count", limit, head)) <= _ALL_COMMITS:
            return self._listed(head)
        found: dict[str, set[str]] = {}
        for kind in ((), ("--tags",)):
            with contextlib.suppress(_Failed):
                tag = self._line("describe", *kind, "--abbrev=0", head) + "^{commit}"
                found |= self._listed(head, "--not", tag) | self._listed("--no-walk", tag)
        if len(found) > _MOST_COMMITS:
            raise _Failed("too many commits")
        return found or self._listed(f"--max-count={_FEW_COMMITS}", head)

    def _listed(self, *words: str) -> dict[str, set[str]]:
        rows = self._git("rev-list", "--parents", *words).decode().splitlines()
        return {row.split()[0]: set(row.split()[1:]) for row in rows}

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

    def _pack(self, names: Iterable[str], head: str) -> dict[str, bytes]:
        """These objects and the folders of HEAD as a pack, and an index of the files of HEAD."""
        folders = self._git(
            "rev-list", "--objects", "--no-object-names", "--filter=blob:none", "--no-walk", head
        )
        objects = sorted({*names, *folders.decode().split()})
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
