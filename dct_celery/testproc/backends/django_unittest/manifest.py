"""The suite as a manifest: one entry per test, in canonical order, with all that planning needs."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import sys
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.util import strclass

from dct_celery.core.model import Entry, Phase


@dataclass(frozen=True, slots=True)
class _File:
    """Where a class is defined, as far as that is known."""

    path: str | None = None
    #: Below the root of the tree; None outside of it.
    relative: str | None = None
    #: Of its content, outside of the tree.
    digest: str = ""


def identities(tests: list[unittest.TestCase]) -> list[tuple[str, str, str]]:
    """(id, class, phase) of each test; the digest of a manifest is made of these."""
    return [(test.id(), strclass(type(test)), phase_of(test).value) for test in tests]


def entries(tests: list[unittest.TestCase], root: str) -> Iterator[Entry]:
    """One entry per test, in canonical order. `root`: top of the tree, for relative file names."""
    files: dict[type, _File] = {}
    return (_entry(index, test, root, files) for index, test in enumerate(tests))


def flushed_aliases(tests: list[unittest.TestCase]) -> list[str]:
    """Aliases that some test of the selection flushes."""
    return sorted({alias for test in filter(_flushes, tests) for alias in _databases(test)})


def unimported(tests: list[unittest.TestCase]) -> dict[str, str]:
    """Id of each test that stands for a module that cannot be imported -> why, in one line."""
    return {
        test.id(): str(test._exception).rstrip().rpartition("\n")[2]
        for test in tests
        if isinstance(test, unittest.loader._FailedTest)  # type: ignore[attr-defined]
    }


def phase_of(test: unittest.TestCase) -> Phase:
    """The phase of the test.

    A SimpleTestCase that may use a database is as free with it as a TransactionTestCase.
    """
    from django.test import SimpleTestCase, TestCase, TransactionTestCase

    if isinstance(test, unittest.loader._FailedTest):  # type: ignore[attr-defined]
        return Phase.LOAD_FAILED
    if isinstance(test, TestCase):
        return Phase.ISOLATED
    if isinstance(test, TransactionTestCase):
        return Phase.TRANSACTIONAL
    if isinstance(test, SimpleTestCase):
        return Phase.TRANSACTIONAL if test.databases else Phase.NO_DATABASE
    return Phase.UNMANAGED


def _entry(index: int, test: Any, root: str, files: dict[type, _File]) -> Entry:
    cls = type(test)
    if cls not in files:
        files[cls] = _class_file(cls, root)
    file = files[cls]
    relative, line = file.relative, None
    if hasattr(test, "_dt_test"):
        relative, line = _doctest_place(test, root)
    elif file.path is not None:
        line = _method_line(test, file.path)
    phase, lock_file = phase_of(test), _lock_file(cls, root)
    return Entry(
        index=index,
        id=test.id(),
        cls=strclass(cls),
        module=cls.__module__,
        phase=phase,
        file=relative,
        line=line,
        databases=tuple(_databases(test)),
        tags=tuple(sorted(_tags(test))),
        flushes=_flushes(test),
        keep_with=_keep_with(cls, phase, lock_file),
        locks=_locks(lock_file, _fixed_port(cls)),
        label=_label(test) if phase is Phase.LOAD_FAILED else "",
        code="" if relative else file.digest,
    )


def _keep_with(cls: type, phase: Phase, lock_file: str | None) -> tuple[str, ...]:
    """What must stay together in one process for the results of the sequential run.

    A class has fixtures; so has a module with setUpModule or tearDownModule, and one with
    load_tests may have chosen any order. Tests that share a lock file are serial because their
    author wants it. All import errors go together: there is nothing in them to run.
    """
    if phase is Phase.LOAD_FAILED:
        return ("load_failed",)
    names = [f"class:{strclass(cls)}"]
    if _has_module_fixtures(cls):
        names.append(f"module:{cls.__module__}")
    if lock_file is not None:
        names.append(f"file:{lock_file}")
    return tuple(names)


def _locks(lock_file: str | None, port: int | None) -> tuple[str, ...]:
    files = () if lock_file is None else (f"file:{lock_file}",)
    return files if port is None else (*files, f"port:{port}")


def _label(test: unittest.TestCase) -> str:
    """The module or name that could not be imported, which is what the test command takes."""
    return test.id().removeprefix("unittest.loader._FailedTest.")


def _relative(path: str, root: str) -> str | None:
    path = os.path.realpath(path)
    inside = os.path.relpath(path, os.path.realpath(root))
    return None if inside.startswith("..") else inside.replace(os.sep, "/")


def _class_file(cls: type, root: str) -> _File:
    module = sys.modules.get(cls.__module__)
    path = getattr(module, "__file__", None)
    if not path:
        return _File()
    relative, digest = _relative(path, root), ""
    if relative is None:
        with contextlib.suppress(OSError):
            content = Path(path).read_bytes()
            digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return _File(path, relative, digest)


def _method_line(test: Any, absolute: str) -> int | None:
    """First line of the method, if it stands in the file of its class; else None."""
    method = inspect.unwrap(
        getattr(type(test), getattr(test, "_testMethodName", ""), None) or (lambda: None)
    )
    code = getattr(method, "__code__", None)
    return code.co_firstlineno if code is not None and code.co_filename == absolute else None


def _doctest_place(test: Any, root: str) -> tuple[str | None, int | None]:
    doc = test._dt_test
    relative = _relative(doc.filename, root) if doc.filename else None
    return relative, doc.lineno + 1 if doc.lineno is not None else None


def _databases(test: Any) -> list[str]:
    from django.test import SimpleTestCase

    if not isinstance(test, SimpleTestCase):
        return []
    if test.databases == "__all__":
        from django.db import connections

        return sorted(connections)
    return sorted(test.databases or ())


def _lock_file(cls: type, root: str) -> str | None:
    from django.test.testcases import SerializeMixin

    lock_file = getattr(cls, "lockfile", None)
    if not issubclass(cls, SerializeMixin) or not lock_file:
        return None
    return _relative(str(lock_file), root) or str(lock_file)


def _fixed_port(cls: type) -> int | None:
    from django.test import LiveServerTestCase

    port = getattr(cls, "port", 0)
    return (
        int(port)
        if issubclass(cls, LiveServerTestCase) and isinstance(port, int) and port
        else None
    )


def _tags(test: Any) -> set[str]:
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    return {str(tag) for tag in (*getattr(test, "tags", ()), *getattr(method, "tags", ()))}


def _flushes(test: Any) -> bool:
    from django.test import TestCase, TransactionTestCase

    if not isinstance(test, TransactionTestCase) or isinstance(test, TestCase):
        return False
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    return not any(getattr(thing, "__unittest_skip__", False) for thing in (type(test), method))


def _has_module_fixtures(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    return any(hasattr(module, name) for name in ("setUpModule", "tearDownModule", "load_tests"))
