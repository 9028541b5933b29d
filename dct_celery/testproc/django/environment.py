"""The interpreter and its packages, as facts of `core.environment`."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator

from dct_celery.core.environment import DECLARED, LOADED, PACKAGE, joined, normal
from dct_celery.testproc.django.variables import all_of_process

#: Loaded before the project: by .pth files, say. No reason to compare them.
_BEFORE = frozenset(sys.modules)
_INSTALLED = ("site-packages", "dist-packages")


def describe() -> dict[str, str]:
    """Facts about interpreter and packages."""
    facts = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": sys.platform,
        "flags": "".join(
            str(flag) for flag in (sys.flags.optimize, sys.flags.dev_mode, sys.flags.utf8_mode)
        ),
    }
    facts.update({f"{PACKAGE}{name}": one.version for name, one in _distributions().items()})
    return facts


def used(root: str, directory: str) -> dict[str, str]:
    """Which distributions the project has imported, and which its requirements name.

    `directory`: the project's folder in the tree with this root; requirements and lock files may
    lie in either.
    """
    found = {name: one for name, one in _distributions().items() if not one.is_of_project(root)}
    folders = {root, os.path.normpath(os.path.join(root, directory))}
    return {LOADED: joined(_loaded(found)), DECLARED: joined(_declared(folders))}


def tell() -> None:
    """Prints what `protocol.workers.MachineEnvironment` says of this interpreter, as JSON.

    The key for hashes of variables comes on standard input.
    """
    key = sys.stdin.read()
    print(json.dumps({"facts": describe(), "variables": all_of_process(key)}, sort_keys=True))


# -- distributions ---------------------------------------------------------------------


class _Distribution:
    """An installed distribution: its version, and the folder that says what belongs to it."""

    def __init__(self, site: str, folder: str, version: str) -> None:
        self.site = site
        self.version = version
        self._folder = os.path.join(site, folder)

    def is_of_project(self, root: str) -> bool:
        """Whether it is the project itself, installed in place."""
        inside = os.path.join(self.site, "").startswith(os.path.join(root, ""))
        return inside and os.path.basename(self.site) not in _INSTALLED

    def record(self) -> bytes:
        """Its files below `site`, a line each that begins with the path.

        An editable one has none: its code is the project's.
        """
        for name in ("RECORD", "installed-files.txt"):
            with (
                contextlib.suppress(OSError),
                open(os.path.join(self._folder, name), "rb") as file,
            ):
                return b"\n" + file.read()
        return b""


def _distributions() -> dict[str, _Distribution]:
    """All installed distributions by their normal name.

    Read from folder names: opening every METADATA costs 50 ms.
    """
    found: dict[str, _Distribution] = {}
    for site in sys.path:
        try:
            names = os.listdir(site or ".")
        except OSError:
            continue
        for entry in names:
            if entry.endswith((".dist-info", ".egg-info")):
                name, _, version = entry.rsplit(".", 1)[0].partition("-")
                if version:
                    found.setdefault(normal(name), _Distribution(site, entry, version))
    return found


def _loaded(distributions: dict[str, _Distribution]) -> Iterator[str]:
    """Those of which a module has been imported since this process began."""
    files: dict[str, set[str]] = {one.site: set() for one in distributions.values()}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name in _BEFORE or not isinstance(path, str):
            continue
        for site in files:
            if path.startswith(f"{site}{os.sep}"):
                files[site].add(path[len(site) + 1 :])
    for site, paths in files.items():
        yield from _owners(paths, {n: one for n, one in distributions.items() if one.site == site})


def _owners(paths: set[str], distributions: dict[str, _Distribution]) -> Iterator[str]:
    """The distributions that these files belong to."""
    called = {name.replace("-", "_"): name for name in distributions}
    owners, unknown = set(), set()
    for path in paths:
        top, inside, _ = path.partition("/")
        # Of a package without __init__.py, each part may come from another distribution.
        whole = not inside or f"{top}/__init__.py" in paths
        if whole and (owner := called.get(top.partition(".")[0])):
            owners.add(owner)  # most are called like their module, and need not be read
        else:
            unknown.add(f"\n{top}/" if inside and whole else f"\n{path},")
    yield from owners
    sought = {line.encode() for line in unknown}
    for name in distributions if sought else ():
        if name not in owners:
            record = distributions[name].record()
            found = {line for line in sought if line in record}
            sought -= found
            if found:
                yield name


#: Lines of requirements files that name a distribution, and those of lock files.
_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:$|[\[<>=!~;@# ])", re.MULTILINE)
_LOCKED = re.compile(r'^name = "([A-Za-z0-9][A-Za-z0-9._-]*)"$', re.MULTILINE)
_LOCK_FILES = ("poetry.lock", "uv.lock", "pdm.lock", "pylock.toml")


def _declared(folders: Iterable[str]) -> Iterator[str]:
    for folder in folders:
        for path in _requirement_files(folder):
            yield from map(normal, _REQUIREMENT.findall(_read(path)))
        for name in _LOCK_FILES:
            yield from map(normal, _LOCKED.findall(_read(os.path.join(folder, name))))
        with contextlib.suppress(ValueError, AttributeError):
            locked = json.loads(_read(os.path.join(folder, "Pipfile.lock")) or "{}")
            yield from (
                normal(name) for part in ("default", "develop") for name in locked.get(part) or ()
            )
        yield from map(normal, _in_pyproject(_read(os.path.join(folder, "pyproject.toml"))))


def _requirement_files(folder: str) -> Iterator[str]:
    for below in (folder, os.path.join(folder, "requirements")):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(below)):
                if name.endswith(".txt") and ("require" in name or below != folder):
                    yield os.path.join(below, name)


def _in_pyproject(text: str) -> Iterator[str]:
    import tomllib

    with contextlib.suppress(tomllib.TOMLDecodeError, AttributeError, TypeError):
        data = tomllib.loads(text)
        project, poetry = data.get("project", {}), data.get("tool", {}).get("poetry", {})
        lists = [
            project.get("dependencies", ()),
            *project.get("optional-dependencies", {}).values(),
            *data.get("dependency-groups", {}).values(),
        ]
        for one in (item for items in lists for item in items if isinstance(item, str)):
            yield from _REQUIREMENT.findall(one)[:1]
        groups = [poetry, *poetry.get("group", {}).values()]
        yield from (
            name for group in groups for name in group.get("dependencies", {}) if name != "python"
        )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
