"""Claims about `testproc.set_order`: where a module's code comes from does not change its sets."""

from __future__ import annotations

import py_compile
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from dct_celery.testproc.set_order import SetOrder

#: Compiled just now and read from bytecode, Python itself has the first and the last in two orders.
MODULE = """
SOME = [*{1, 2, 3, 99, 100001}]
FEW = [*{100001, 1}]
def inner(): return [*{("a", 100001), ("b", 1), (1, 2.5), b"x", None}, *{7, 8, 9, 100007}]
"""


@pytest.fixture
def set_order() -> Iterator[SetOrder]:
    order = SetOrder()
    order.start()
    yield order
    order.stop()


def seen(path: Path) -> list[object]:
    names: dict[str, object] = {}
    code = SourceFileLoader("module", str(path)).get_code("module")
    assert code is not None
    exec(code, names)
    inner = names["inner"]
    assert callable(inner)
    return [names["SOME"], names["FEW"], inner()]


def test_a_module_has_its_sets_in_the_same_order_with_and_without_bytecode(
    tmp_path: Path, set_order: SetOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    # When
    compiled = seen(path)
    py_compile.compile(str(path), doraise=True)
    # Then
    assert seen(path) == compiled
    assert {len(each) for each in compiled if isinstance(each, list)} == {2, 5, 9}


def test_code_without_such_sets_is_left_alone(
    tmp_path: Path, set_order: SetOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    path = tmp_path / "module.py"
    path.write_text("def f(x): return x in (1, 2, (3, 4))")
    # When
    ours = SourceFileLoader("module", str(path)).get_code("module")
    set_order.stop()
    # Then
    assert ours == SourceFileLoader("module", str(path)).get_code("module")


def test_nothing_is_left_of_it() -> None:
    # Given
    order = SetOrder()
    order.start()
    # When
    order.stop()
    # Then
    assert "get_code" not in vars(SourceFileLoader)
