"""The collected session as a manifest: one entry per item, in the order in which pytest would run.

The id of an entry is the item's node id, whatever is in it; nothing here looks for an item by it.
"""

from __future__ import annotations

import os
import posixpath
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import pytest

from dct_celery.core.model import Entry, Phase

#: Marks of plugins whose tests depend on each other within a module.
_MODULE_MARKS = ("dependency", "order", "run")
#: Fixtures with which a test reaches databases beside pytest-django's own rules.
_FREE = frozenset({"django_db_blocker", "django_db_setup", "django_db_keepdb"})


def entries(
    items: Sequence[pytest.Item],
    failures: Sequence[dict[str, Any]],
    *,
    root: str,
    dist: str,
    django: bool,
) -> Iterator[Entry]:
    """`failures`: serialized reports of collectors that failed, which come first.

    `root`: top of the tree; `dist`: what xdist's option says; `django`: pytest-django has settings.
    """
    for index, data in enumerate(failures):
        nodeid = data["nodeid"]
        dotted = _dotted(nodeid.split("::")[0])
        yield Entry(
            index=index,
            id=nodeid,
            cls=dotted,
            module=dotted,
            phase=Phase.LOAD_FAILED,
            keep_with=("load_failed",),
        )
    wide, links = _wide_places(items), _links(items)
    for index, item in enumerate(items, start=len(failures)):
        together = tuple(_keep_with(item, wide, links, dist))
        yield _entry(index, item, root, together, django=django)


def _entry(
    index: int, item: pytest.Item, root: str, together: tuple[str, ...], *, django: bool
) -> Entry:
    names = item.nodeid.split("::")
    cls = class_of(item)
    phase = phase_of(item) if django else Phase.NO_DATABASE
    line = item.location[1]
    return Entry(
        index=index,
        id=item.nodeid,
        cls=dotted_class(item),
        module=_dotted(names[0]),
        phase=phase,
        file=_relative(str(item.path), root),
        line=None if line is None else line + 1,
        databases=tuple(databases_of(item)) if django else (),
        tags=tuple(sorted({mark.name for mark in item.iter_markers()})),
        flushes=phase is Phase.TRANSACTIONAL and _runs(item),
        keep_with=together,
        locks=tuple(_locks(item, cls, root)) if django else (),
        label=_label(item),
    )


def class_of(item: pytest.Item) -> type | None:
    cls = getattr(item, "cls", None)
    return cls if isinstance(cls, type) else None


def above(item: pytest.Item) -> str:
    """Node id of its class or module."""
    return item.parent.nodeid if item.parent is not None else ""


def dotted_class(item: pytest.Item) -> str:
    """What pytest's JUnit report calls the class of its case."""
    file, *names = above(item).split("::")
    return ".".join([_dotted(file), *names])


def _dotted(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def _label(item: pytest.Item) -> str:
    """The node id as the command line takes it, from the working directory."""
    place, colons, rest = item.nodeid.partition("::")
    path = _from(str(item.config.invocation_params.dir), str(item.config.rootpath), place)
    label = f"{path}{colons}{rest}"
    return "" if label == item.nodeid else label


# A file's items come one after the other, and each of these asks the file system.


@lru_cache
def _from(folder: str, root: str, place: str) -> str:
    return os.path.relpath(os.path.join(root, place), folder)


@lru_cache
def _relative(path: str, root: str) -> str | None:
    inside = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    return None if inside.startswith("..") else inside.replace(os.sep, "/")


def _runs(item: pytest.Item) -> bool:
    """False if a mark skips it whatever happens."""
    return item.get_closest_marker("skip") is None


# -- what stays together -----------------------------------------------------------------


def _wide_places(items: Sequence[pytest.Item]) -> frozenset[str]:
    """Files and packages whose tests have fixtures, or marks, that hold for all of them.

    All of its tests stay together, as such a fixture is torn down behind the last one, whether
    that uses it or not.
    """
    wide = set()
    for item in items:
        for fixture in fixtures_of(item):
            if fixture.scope == "module":
                wide.add(_file(item))
            elif fixture.scope == "package":
                wide.add(f"{fixture.baseid}/")
        if any(item.get_closest_marker(name) for name in _MODULE_MARKS):
            wide.add(_file(item))
    return frozenset(wide)


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _links(items: Sequence[pytest.Item]) -> Mapping[str, set[str]]:
    """File -> what it shares with other files, as their tests depend on each other by marks: of
    pytest-order, or of pytest-dependency in a scope beyond the module.
    """
    files = {_file(item) for item in items}
    links: dict[str, set[str]] = defaultdict(set)
    for item in items:
        own = _file(item)
        for target in _named_tests(item):
            place = target.partition("::")[0]
            beside = posixpath.normpath(posixpath.join(posixpath.dirname(own), place))
            for other in files & {place, beside} - {own}:
                links[own].add(f"linked:{own}:{other}")
                links[other].add(f"linked:{own}:{other}")
    wide = [item for item in items if any(_is_wide(mark) for mark in _dependencies(item))]
    if any(item for item in wide if not all("::" in name for name in _named_tests(item))):
        # Names that are no node ids: they may be of any module.
        for item in items:
            if any(True for _ in _dependencies(item)):
                links[_file(item)].add("linked:dependency")
    return links


def _named_tests(item: pytest.Item) -> Iterator[str]:
    """Tests, perhaps of other files, that must have run before or behind this one."""
    for mark in item.iter_markers("order"):
        for key in ("before", "after"):
            yield from _texts(mark.kwargs.get(key))
    for mark in _dependencies(item):
        if _is_wide(mark):
            yield from _texts(mark.kwargs.get("depends"))


def _dependencies(item: pytest.Item) -> Iterator[pytest.Mark]:
    return item.iter_markers("dependency")


def _is_wide(mark: pytest.Mark) -> bool:
    return mark.kwargs.get("scope") in ("package", "session")


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [one for one in values if isinstance(one, str)]


def _keep_with(
    item: pytest.Item, wide: frozenset[str], links: Mapping[str, set[str]], dist: str
) -> Iterator[str]:
    cls, file = class_of(item), _file(item)
    if cls is not None:
        yield f"class:{above(item)}"
    if file in wide or dist == "loadfile" or (dist == "loadscope" and cls is None):
        yield f"module:{file}"
    yield from sorted(links.get(file, ()))
    yield from (f"package:{place}" for place in wide if place[-1] == "/" and file.startswith(place))
    for mark in item.iter_markers("xdist_group"):
        name = mark.args[0] if mark.args else mark.kwargs.get("name", "default")
        yield f"group:{name}"


def fixtures_of(item: pytest.Item) -> list[Any]:
    """Definitions of the fixtures that the item uses, as pytest knows them before it runs."""
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return []
    return [one for found in info.name2fixturedefs.values() for one in found]


def _locks(item: pytest.Item, cls: type | None, root: str) -> Iterator[str]:
    if cls is not None and "django.test.testcases" in sys.modules:
        from django.test.testcases import LiveServerTestCase, SerializeMixin

        if issubclass(cls, SerializeMixin):
            file = str(getattr(cls, "lockfile", ""))
            yield f"file:{_relative(file, root) or file}"
        port = getattr(cls, "port", 0)
        if issubclass(cls, LiveServerTestCase) and isinstance(port, int) and port:
            yield f"port:{port}"
    address = item.config.getoption("liveserver", None) or ""
    port_text = str(address).rpartition(":")[2]
    if "live_server" in getattr(item, "fixturenames", ()) and port_text.isdigit():
        yield f"port:{port_text}"


# -- databases, by the rules of pytest-django ---------------------------------------------


def databases_of(item: pytest.Item) -> list[str]:
    from pytest_django.fixtures import _get_databases_for_test

    aliases, _ = _get_databases_for_test(item)
    return sorted(aliases)


def phase_of(item: pytest.Item) -> Phase:
    """As pytest-django orders the item."""
    from django.test import TestCase, TransactionTestCase
    from pytest_django.fixtures import validate_django_db

    cls, fixtures = class_of(item), set(getattr(item, "fixturenames", ()))
    if cls is not None and issubclass(cls, TransactionTestCase):
        return Phase.ISOLATED if issubclass(cls, TestCase) else Phase.TRANSACTIONAL
    mark = item.get_closest_marker("django_db")
    transactional = bool({"transactional_db", "live_server"} & fixtures)
    if mark is not None:
        transaction, reset_sequences, *_ = validate_django_db(mark)
        transactional = transactional or bool(transaction or reset_sequences)
    if transactional or "django_db_reset_sequences" in fixtures:
        return Phase.TRANSACTIONAL
    if mark is not None or "db" in fixtures:
        return Phase.ISOLATED
    return Phase.UNMANAGED if _FREE & _direct(item) else Phase.NO_DATABASE


def _direct(item: pytest.Item) -> set[str]:
    """Fixtures that the test itself names: others reach it through those of the session."""
    info = getattr(item, "_fixtureinfo", None)
    return set(info.argnames) if info is not None else set()


def needed_databases(items: Iterable[pytest.Item]) -> dict[str, bool]:
    """Alias -> whether its contents must be serialized, as pytest-django sets them up."""
    from pytest_django.fixtures import _get_databases_for_setup

    aliases, serialized = _get_databases_for_setup(list(items))
    return {alias: alias in serialized for alias in aliases}
