"""What a run did with databases: each worker reports only what is new, and the sums are right."""

from __future__ import annotations

from dct_celery.core.databases.usage import Changes, DatabaseUse


def test_only_what_is_new_is_reported() -> None:
    # Given
    changes = Changes()
    assert changes.since({"cloned": 2, "clone_seconds": 0.5}) == {"cloned": 2, "clone_seconds": 0.5}
    # Then
    assert changes.since({"cloned": 3, "clone_seconds": 0.5}) == {"cloned": 1}
    assert changes.since({"cloned": 3, "clone_seconds": 0.5}) == {}


def test_parts_add_up() -> None:
    # Given
    use = DatabaseUse()
    # When
    use.add({"cloned": 2, "clone_seconds": 0.25})
    use.add({"cloned": 1, "waited_seconds": 0.125})
    # Then
    assert use.to_dict()["cloned"] == 3
    assert use.to_dict()["clone_seconds"] == 0.25
    assert use.to_dict()["waited_seconds"] == 0.125
    assert use.to_dict()["healed"] == 0


def test_what_is_unknown_is_left_out() -> None:
    # Given
    use = DatabaseUse()
    # When
    use.add({"password": 1, "opened": 1})
    # Then
    assert use.to_dict()["cloned"] == 0
    assert "password" not in use.to_dict()


def test_a_run_without_databases_reports_nothing() -> None:
    assert DatabaseUse().to_dict() == {}


def test_each_worker_says_how_it_came_by_its_templates() -> None:
    # Given
    use = DatabaseUse()
    # When
    use.prepared("build-a@host", "reused", {"load": 1.5})
    # Then
    assert use.to_dict()["workers"] == {
        "build-a@host": {"templates": "reused", "seconds": {"load": 1.5}}
    }
