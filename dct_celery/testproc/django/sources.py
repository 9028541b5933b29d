"""The source files that a template depends on: modules, and what they import, transitively.

Nothing is imported. Only project code is followed: whatever lies neither in the standard library
nor in a site-packages folder, so an editable installation or a folder on PYTHONPATH is project
code, too. Everything else is represented by the version of its package.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from typing import Any

#: Every import statement, wherever it stands in its line; also what looks like one in a string,
#: which does no harm. A syntax tree of a thousand migrations costs seconds, this costs
#: milliseconds; a test compares both.
_IMPORT = re.compile(
    r"\bfrom[ \t\f]*(?P<dots>[. \t\f]*)(?P<module>[\w.]*)[ \t\f]*\bimport\b["
    r" \t\f]*(?P<names>\((?:[^)#]|#[^\n]*)*\)|[^\n;#]*)"
    r"|\bimport[ \t\f]+(?P<modules>[^\n;#]+)"
)
_CONTINUED = re.compile(r"\\\r?\n")
_COMMENT = re.compile(r"#[^\n]*")
#: call_command imports a module whose name stands in no import statement.
_CALLED = re.compile(r"""\bcall_command\(\s*["']([\w-]+)["']""")
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_SKIPPED = (".pyc", ".pyo")


def imports(source: str, package: str) -> set[str]:
    """Absolute names that a module of `package` imports.

    "a.b" for `import a.b`; "a", "a.b" for `from a import b`.
    """
    found: set[str] = set()
    text, at = _CONTINUED.sub(" ", source), 0
    # Jumps to the next line with the word "import": most of a file has none.
    while (hit := text.find("import", at)) >= 0:
        match = _IMPORT.search(text, text.rfind("\n", at, hit) + 1 or at)
        if match is None:
            break
        at = match.end()
        found.update(_named(match, package))
    return found


def _named(match: re.Match[str], package: str) -> Iterator[str]:
    if match["modules"] is not None:
        yield from _first_names(match["modules"])
        return
    base = _absolute(match["dots"].count("."), match["module"], package)
    if base:
        yield base
        yield from (
            f"{base}.{name}"
            for name in _first_names(_COMMENT.sub("", match["names"]).strip("() \t\r\n\f"))
        )


def _first_names(names: str) -> Iterator[str]:
    """The names of "a as b, c"."""
    for part in names.split(","):
        name, *_ = part.split() or ["*"]
        if name != "*":
            yield name


def _absolute(level: int, module: str, package: str) -> str:
    if not level:
        return module
    parts = package.split(".")
    return ".".join(filter(None, [*parts[: len(parts) - level + 1], module]))


class Sources:
    """Reads every file once. `commands`: management command -> its module.

    `closure` and `files` return {name: digest}; the names contain no folder of this host.
    """

    def __init__(self, commands: Mapping[str, str] | None = None) -> None:
        self._commands = commands or {}
        self._foreign = _foreign_folders()
        self._located: dict[str, tuple[str | None, list[str]]] = {}
        self._contents: dict[str, bytes] = {}

    def closure(self, modules: Iterable[str]) -> dict[str, str]:
        """The given modules, all that they import, and the commands that they call by name, as far
        as it is project code.
        """
        waiting, seen, found = list(modules), set(), {}
        while waiting:
            name = waiting.pop()
            if name in seen or self._is_foreign_package(name.partition(".")[0]):
                continue
            seen.add(name)
            waiting.extend(_parents(name))
            path, folders = self.locate(name)
            if path is None or self.is_foreign(path):
                continue
            found[name] = _digest(self.read(path))
            if path.endswith(".py"):
                package = name if folders else name.rpartition(".")[0]
                text = self.read(path).decode("utf-8", "replace")
                waiting.extend(imports(text, package))
                called = _CALLED.findall(text)
                waiting.extend(self._commands[name] for name in called if name in self._commands)
        return found

    def locate(self, name: str) -> tuple[str | None, list[str]]:
        """(file, folders) of a module; (None, []) if there is none. Only a package has folders."""
        if name not in self._located:
            self._located[name] = self._locate(name)
        return self._located[name]

    def _locate(self, name: str) -> tuple[str | None, list[str]]:
        module = sys.modules.get(name)
        if module is not None:
            return getattr(module, "__file__", None), [
                str(folder) for folder in getattr(module, "__path__", ())
            ]
        parent = name.rpartition(".")[0]
        folders = self.locate(parent)[1] if parent else None
        if parent and not folders:
            return None, []
        spec = _spec(name, folders)
        if spec is None:
            # Python finds a package without __init__.py only where the one above is imported.
            inner = name.rpartition(".")[2]
            below = [os.path.join(folder, inner) for folder in folders or ()]
            return None, [folder for folder in below if os.path.isdir(folder)]
        return (spec.origin if spec.has_location else None), list(
            spec.submodule_search_locations or ()
        )

    def is_foreign(self, path: str) -> bool:
        """Whether the path belongs to the standard library, an installed distribution, or us."""
        return path.startswith(self._foreign) or any(part in path for part in _INSTALLED)

    def _is_foreign_package(self, name: str) -> bool:
        """Whether nothing in the package can be project code.

        A namespace package may have a part in the project and another elsewhere.
        """
        path, folders = self.locate(name)
        return all(map(self.is_foreign, [path] if path else folders))

    def files(self, label: str, folder: str) -> dict[str, str]:
        """All files below a folder except bytecode, named `label`/path. A missing one has none."""
        found = {}
        for base, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for name in names:
                if not name.endswith(_SKIPPED):
                    path = os.path.join(base, name)
                    found[f"{label}/{os.path.relpath(path, folder)}"] = _digest(self.read(path))
        return found

    def matching(self, pattern: str, root: str) -> dict[str, str]:
        """Files that match a glob below `root`, and all files below a folder that matches."""
        found = {}
        for name in glob.glob(pattern, root_dir=root, recursive=True, include_hidden=True):
            path, label = os.path.join(root, name), os.path.normpath(name)
            found.update(
                self.files(label, path)
                if os.path.isdir(path)
                else {label: _digest(self.read(path))}
            )
        return found

    def read(self, path: str) -> bytes:
        """The content; for a file that cannot be read, the reason."""
        if path not in self._contents:
            try:
                with open(path, "rb") as file:
                    self._contents[path] = file.read()
            except OSError as error:
                self._contents[path] = f"unreadable: {error.strerror}".encode()
        return self._contents[path]


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _spec(name: str, folders: list[str] | None) -> ModuleSpec | None:
    """What an import would find. Finders are asked, nothing is imported."""
    for finder in sys.meta_path:
        find: Any = getattr(finder, "find_spec", None)
        try:
            spec: ModuleSpec | None = find(name, folders) if find else None
        except Exception:  # a finder of the project
            spec = None
        if spec is not None:
            return spec
    return None


def _foreign_folders() -> tuple[str, ...]:
    import dct_celery

    paths = sysconfig.get_paths()
    own = os.path.dirname(str(dct_celery.__file__))
    known = {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], own}
    return tuple(
        sorted(
            {
                place.rstrip(os.sep) + os.sep
                for folder in known
                for place in (folder, os.path.realpath(folder))
            }
        )
    )
