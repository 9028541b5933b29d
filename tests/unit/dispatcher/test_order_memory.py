"""Claims about `dispatcher.order_memory`: only what the pool has signed is believed."""

from __future__ import annotations

from pathlib import Path

from dct_celery.core.model import OrderKind
from dct_celery.core.plan.order_facts import OrderFact
from dct_celery.dispatcher.order_memory import CodeDigests, opened, sealed
from tests.support.factories import OTHER_KEY, make_entry, pool_door

FACT = OrderFact("c0de", kind=OrderKind.BRITTLE, before=("a.Setter",), tests=("a.T.test_x",))


def test_facts_come_back_as_they_were_and_nothing_else_in_the_store_disturbs_them() -> None:
    # Given
    stored = {**sealed({"a.T": FACT}, pool_door(), "shop"), "t:a.T.test_x": "[0.1,3]"}
    # Then
    assert opened(stored, pool_door(), "shop") == ({"a.T": FACT}, "")


def test_facts_of_another_key_project_or_class_are_ignored_and_counted_in_one_line() -> None:
    # Given
    stored = sealed({"a.T": FACT}, pool_door(OTHER_KEY), "shop")
    stored |= {"o:a.U": sealed({"a.T": FACT}, pool_door(), "shop")["o:a.T"], "o:a.V": "garbage"}
    # When
    facts, line = opened(stored, pool_door(), "shop")
    # Then
    assert facts == {}
    assert line.startswith("3 facts about the order of tests are ignored; one ")
    _, line = opened(dict(list(stored.items())[:1]), pool_door(), "shop")
    assert line.startswith("1 fact about the order of tests is ignored; it ")
    assert opened(sealed({"a.T": FACT}, pool_door(), "shop"), pool_door(), "other")[0] == {}


def test_a_digest_is_of_all_files_and_changes_with_each(tmp_path: Path) -> None:
    # Given
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(name)
    entries = [make_entry(n, file=f"{name}.py") for n, name in enumerate("ab")]
    before = CodeDigests(tmp_path).of(entries)
    # When
    (tmp_path / "b.py").write_text("c")
    # Then
    assert before != CodeDigests(tmp_path).of(entries)
    assert before != CodeDigests(tmp_path).of(entries[:1])


def test_code_outside_of_the_tree_has_the_digest_that_its_entries_bring(tmp_path: Path) -> None:
    # Given
    (tmp_path / "a.py").write_text("a")
    inside, outside = make_entry(0, file="a.py"), make_entry(1, code="1f")
    both = CodeDigests(tmp_path).of([inside, outside])
    # Then
    assert both != ""
    assert both != CodeDigests(tmp_path).of([inside, make_entry(1, code="2f")])


def test_without_its_files_code_has_no_digest(tmp_path: Path) -> None:
    assert CodeDigests(tmp_path).of([make_entry(0, file="gone.py")]) == ""
    assert CodeDigests(tmp_path).of([make_entry(0)]) == ""
