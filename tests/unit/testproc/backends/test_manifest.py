"""Claims about the Django backend's manifest.

An entry says all that planning needs, by what stands in the class alone.
"""

from __future__ import annotations

import doctest
import sys
import types
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase, tag
from django.test.testcases import SerializeMixin

from dct_celery.core.model import Entry, Phase
from dct_celery.testproc.backends.django_unittest import manifest

HERE = Path(__file__)
NAME = "shelf_tests_of_the_manifest"


@pytest.fixture
def module() -> Iterator[Any]:
    """A module of tests, empty."""
    made = types.ModuleType(NAME)
    made.__file__ = str(HERE)
    sys.modules[NAME] = made
    yield made
    del sys.modules[NAME]


def case(base: type, name: str = "Case", **attributes: Any) -> Any:
    """A test of a class of the module."""
    body = {"__module__": NAME, "__qualname__": name, "test_it": lambda self: None, **attributes}
    return type(name, (base,), body)("test_it")


def entry_of(test: Any) -> Entry:
    (entry,) = manifest.entries([test], str(HERE.parents[1]))
    return entry


@pytest.mark.parametrize(
    ("base", "attributes", "phase"),
    [
        (TestCase, {}, Phase.ISOLATED),
        (TransactionTestCase, {}, Phase.TRANSACTIONAL),
        (LiveServerTestCase, {}, Phase.TRANSACTIONAL),
        (SimpleTestCase, {}, Phase.NO_DATABASE),
        (SimpleTestCase, {"databases": {"default"}}, Phase.TRANSACTIONAL),
        (unittest.TestCase, {}, Phase.UNMANAGED),
    ],
)
def test_the_phase_is_what_the_class_leaves_of_its_database(
    module: Any, base: type, attributes: dict[str, Any], phase: Phase
) -> None:
    assert entry_of(case(base, **attributes)).phase is phase


def test_an_entry_names_its_test_its_class_and_its_place(module: Any) -> None:
    # Given
    def test_it(self: object) -> None: ...

    # When
    entry = entry_of(case(TestCase, test_it=test_it))
    # Then
    assert (entry.id, entry.cls, entry.module) == (f"{NAME}.Case.test_it", f"{NAME}.Case", NAME)
    assert (entry.file, entry.line) == (
        "backends/test_manifest.py",
        test_it.__code__.co_firstlineno,
    )
    assert entry.code == ""


def test_an_entry_from_outside_of_the_tree_has_the_digest_of_its_file(
    module: Any, tmp_path: Path
) -> None:
    # Given
    path = tmp_path / "elsewhere.py"
    module.__file__ = str(path)
    digests = []
    for text in ("one", "two"):
        path.write_text(text)
        # When
        entry = entry_of(case(TestCase))
        # Then
        assert entry.file is None
        digests.append(entry.code)
    assert "" not in digests
    assert digests[0] != digests[1]


def test_entries_are_numbered_in_order_and_agree_with_the_identities(module: Any) -> None:
    # Given
    tests = [case(TestCase, name) for name in ("One", "Two")]
    # When
    entries = list(manifest.entries(tests, "/src"))
    # Then
    assert [entry.index for entry in entries] == [0, 1]
    assert [(entry.id, entry.cls, entry.phase.value) for entry in entries] == manifest.identities(
        tests
    )
    assert entries[0].file is None


def test_a_class_stays_together(module: Any) -> None:
    assert entry_of(case(TestCase)).keep_with == (f"class:{NAME}.Case",)


@pytest.mark.parametrize("name", ["setUpModule", "tearDownModule", "load_tests"])
def test_a_module_with_fixtures_or_an_order_of_its_own_stays_together(
    module: Any, name: str
) -> None:
    # Given
    setattr(module, name, lambda *_: None)
    # Then
    assert entry_of(case(TestCase)).keep_with == (f"class:{NAME}.Case", f"module:{NAME}")


def test_what_shares_a_lock_file_stays_together_and_holds_it_alone(
    module: Any, tmp_path: Path
) -> None:
    # Given
    class Serial(SerializeMixin, TestCase):
        lockfile = str(HERE)

    Serial.__module__, Serial.__qualname__ = NAME, "Serial"
    Serial.test_it = lambda self: None  # type: ignore[attr-defined]
    # When
    entry = entry_of(Serial("test_it"))
    # Then
    assert entry.keep_with == (f"class:{NAME}.Serial", "file:backends/test_manifest.py")
    assert entry.locks == ("file:backends/test_manifest.py",)


def test_a_fixed_port_is_held_alone_but_keeps_nothing_together(module: Any) -> None:
    # When
    entry = entry_of(case(LiveServerTestCase, port=8081))
    # Then
    assert entry.locks == ("port:8081",)
    assert entry.keep_with == (f"class:{NAME}.Case",)
    assert entry_of(case(LiveServerTestCase)).locks == ()


def test_import_errors_stay_together_and_are_called_by_what_cannot_be_imported() -> None:
    # Given
    failed = unittest.TestLoader().loadTestsFromName("no_such_module_of_tests")
    # When
    entries = list(manifest.entries(list(failed), "/src"))  # type: ignore[arg-type]
    # Then
    assert [(entry.phase, entry.keep_with, entry.label) for entry in entries] == [
        (Phase.LOAD_FAILED, ("load_failed",), "no_such_module_of_tests")
    ]


def test_a_doctest_has_the_place_of_its_text_and_stays_with_the_others() -> None:
    # Given
    parsed = doctest.DocTestParser().get_doctest(">>> 1\n1\n", {}, "shelf.things", str(HERE), 6)
    # When
    entry = entry_of(doctest.DocTestCase(parsed))
    # Then
    assert (entry.id, entry.file, entry.line) == ("shelf.things", "backends/test_manifest.py", 7)
    assert entry.keep_with == ("class:doctest.DocTestCase",)


def test_tags_are_those_of_class_and_method(module: Any) -> None:
    # Given
    method = tag("slow", "net")(lambda self: None)
    # Then
    assert entry_of(case(TestCase, test_it=method, tags={"db", "net"})).tags == (
        "db",
        "net",
        "slow",
    )


@pytest.mark.parametrize(
    ("base", "attributes", "flushes"),
    [
        (TransactionTestCase, {"databases": {"default", "other"}}, ["default", "other"]),
        (TransactionTestCase, {"__unittest_skip__": True}, []),
        (TestCase, {"databases": {"default"}}, []),
        (SimpleTestCase, {"databases": {"default"}}, []),
    ],
)
def test_a_transactional_test_flushes_its_databases_unless_it_is_skipped(
    module: Any, base: type, attributes: dict[str, Any], flushes: list[str]
) -> None:
    # Given
    test = case(base, **attributes)
    # Then
    assert manifest.flushed_aliases([test]) == flushes
    assert entry_of(test).flushes is bool(flushes)
