"""A small `.git` that answers what settings and version modules ask of the real one.

    git rev-parse --short HEAD · git describe --tags --dirty · git branch · git log -1 · git status

It has all commits, the folders of HEAD, the current branch, the tags, and an index without times,
but no file's content (targets of links apart), no remote, and no configuration of its user.
`describe` counts commits, so that a part of them would give another answer. It is only made for
projects whose code mentions git, and always the same for the same state, so that equal trees stay
equal.

Whether a file has changed depends on more than its content: filters, modes that the file system
has not, files that were not sent. So the index says of each file that git finds unchanged here that
it is not to be compared.
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

from dct_celery.adapters.source.git_environment import git_environment

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
#: `abbrev`: how many digits an abbreviated hash has depends on the number of objects.
_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tabbrev = {abbrev}
"""
#: Of what is written here, nothing may depend on the configuration.
_PLAIN = (
    "core.fsmonitor=false", "core.splitIndex=false", "core.untrackedCache=false",
    "feature.manyFiles=false", "index.sparse=false", "index.version=2",
)  # fmt: skip
_OPTIONS = tuple(word for option in _PLAIN for word in ("-c", option))
_HEAD = ".git/HEAD"
#: The user's own index is not written, and no history replaced: a worker would not know by what.
_ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1"}
#: git wants the folder above this one, whether or not there is anything in it.
_FOLDER = ".git/refs/tags"


class _Failed(Exception):
    """git has no answer."""


def asks(root: Path, path: str) -> bool:
    """Whether this file of the project may ask git for something."""
    if not path.endswith(_ASKING):
        return False
    content = (root / path).read_bytes()
    return any(word in content for word in _WORDS) and _ASKS.search(content) is not None


def files(root: Path, sent: Container[str]) -> dict[str, bytes]:
    """Path below the root -> content; empty where git cannot tell, as before the first commit.

    `sent`: paths below the root that go to the workers.
    """
    try:
        return _Repository(root, sent).files()
    except (_Failed, OSError, subprocess.SubprocessError):
        return {}


def folders(made: Iterable[str]) -> set[str]:
    """The empty folders that belong to these files, of one or several repositories."""
    heads = (path.removesuffix(_HEAD) for path in made if f"/{path}".endswith(f"/{_HEAD}"))
    return {f"{repository}{_FOLDER}" for repository in heads}


class _Repository:
    def __init__(self, root: Path, sent: Container[str]) -> None:
        self._root = root
        self._sent = sent

    def files(self) -> dict[str, bytes]:
        if self._line("rev-parse", "--show-object-format") != "sha1":
            raise _Failed("a repository of another format")
        head, branch = self._line("rev-parse", "--verify", "HEAD"), ""
        with contextlib.suppress(_Failed):
            branch = self._line("symbolic-ref", "-q", "HEAD")
        abbrev = len(self._line("rev-parse", "--short", head))
        commits = self._commits(head)
        tags = self._tags(commits)
        found = {
            _HEAD: f"ref: {branch}\n" if branch else f"{head}\n",
            ".git/config": _CONFIG.format(abbrev=abbrev),
            ".git/packed-refs": _packed({**tags, branch: (head, "")} if branch else tags),
        }
        if branch:  # also where code that reads `.git` by itself looks for it
            found[f".git/{branch}"] = f"{head}\n"
        if self._ignores_bytecode():
            found[".git/info/exclude"] = "__pycache__/\n"
        made = {path: os.fsencode(text) for path, text in found.items()}
        # A shallow clone, as CI has it, stays one.
        with contextlib.suppress(OSError):
            shallow = self._root / self._line("rev-parse", "--git-path", "shallow")
            made[".git/shallow"] = shallow.read_bytes()
        return {**made, **self._pack({*commits, *(name for name, _ in tags.values())}, head)}

    def _commits(self, head: str) -> set[str]:
        """Those of HEAD, and of all tags where these are not too many.

        Raises _Failed for too many.
        """
        most = f"--max-count={_MOST_COMMITS + 1}"
        for wanted in ((head, "--tags"), (head,)):
            commits = set(self._words("rev-list", most, *wanted))
            if len(commits) <= _MOST_COMMITS:
                return commits
        raise _Failed("it has too many commits")

    def _tags(self, commits: Container[str]) -> dict[str, tuple[str, str]]:
        """Name of each tag of these commits -> its object, and its commit if that is another."""
        form = "%(objectname) %(*objectname) %(refname)"
        found = {}
        for row in self._git("for-each-ref", f"--format={form}", "refs/tags").split(b"\n")[:-1]:
            one, commit, name = os.fsdecode(row).split(" ", 2)
            if (commit or one) in commits:
                found[name] = (one, commit)
        return found

    def _ignores_bytecode(self) -> bool:
        """What says so may be outside of the tree: the user's own configuration."""
        try:
            self._git("check-ignore", "-q", "--no-index", "a/__pycache__/b.pyc")
        except _Failed:
            return False
        return True

    def _pack(self, names: set[str], head: str) -> dict[str, bytes]:
        """These objects and the folders of HEAD as a pack, and an index of the files."""
        names = names | self._folders(head)
        with contextlib.suppress(_Failed):  # `git show -s` reads those of the commit before
            names |= self._folders(*self._words("rev-parse", f"{head}^@"))
        # git compares a link with its target in the repository, everything else by hashes.
        rows = self._git("ls-tree", "-r", "-z", head).split(b"\0")
        links = {row.split()[2].decode() for row in rows if row.startswith(b"120000 ")}
        objects = sorted(names | links)
        # Nothing here may depend on how the objects are stored at present.
        pack = self._git(
            "pack-objects", "--stdout", "-q", "--no-reuse-delta", "--no-reuse-object",
            "--window=0", "--threads=1", given="".join(f"{one}\n" for one in objects).encode(),
        )  # fmt: skip
        name = f".git/objects/pack/pack-{hashlib.sha1(pack, usedforsecurity=False).hexdigest()}"
        with tempfile.TemporaryDirectory() as made:
            (Path(made) / "it.pack").write_bytes(pack)
            self._git("index-pack", "-o", f"{made}/it.idx", f"{made}/it.pack")
            self._write_index(f"{made}/index")
            return {
                f"{name}.pack": pack,
                f"{name}.idx": (Path(made) / "it.idx").read_bytes(),
                ".git/index": (Path(made) / "index").read_bytes(),
            }

    def _folders(self, *commits: str) -> set[str]:
        if not commits:
            return set()
        words = ("--objects", "--no-object-names", "--filter=blob:none", "--no-walk")
        return set(self._words("rev-list", *words, *commits))

    def _write_index(self, path: str) -> None:
        """The index as it is, without times, and with what is not to be compared."""
        rows = self._git("ls-files", "-s", "-z")
        env = {"GIT_INDEX_FILE": path}
        self._git("update-index", "-z", "--index-info", given=rows, env=env)
        words = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=no")
        states = self._git(*words, "--ignore-submodules=all").split(b"\0")
        changed = {row[3:] for row in states if row[1:2] != b" "}
        files = [
            name
            for row in rows.split(b"\0")[:-1]
            for facts, _, name in [row.partition(b"\t")]
            if facts.endswith(b" 0") and not facts.startswith(b"160000 ") and name not in changed
        ]
        missing = {name for name in files if os.fsdecode(name) not in self._sent}
        for option, those in (
            ("--assume-unchanged", [name for name in files if name not in missing]),
            ("--skip-worktree", sorted(missing)),
        ):
            if those:
                self._git("update-index", option, "-z", "--stdin", given=_lines(those), env=env)

    def _line(self, *words: str) -> str:
        return os.fsdecode(self._git(*words)).strip()

    def _words(self, *words: str) -> list[str]:
        return self._git(*words).decode().split()

    def _git(self, *words: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        """Raises _Failed."""
        done = subprocess.run(
            ["git", *_OPTIONS, "-C", str(self._root), *words],
            input=given,
            env={**git_environment(), **_ENVIRONMENT, **(env or {})},
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
        if done.returncode != 0:
            raise _Failed(done.stderr.decode(errors="replace"))
        return done.stdout


def _lines(names: Iterable[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in names)


def _packed(refs: Mapping[str, tuple[str, str]]) -> str:
    lines = ["# pack-refs with: peeled fully-peeled sorted "]
    for name, (one, commit) in sorted(refs.items(), key=lambda ref: os.fsencode(ref[0])):
        lines += [f"{one} {name}", *([f"^{commit}"] if commit else [])]
    return "".join(f"{line}\n" for line in lines)
