"""What a whole run says that its tests used: as Django counts it, and unseen by the tests."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.projects import make_project

#: Each test notes what Django captures around all of it, set-up and tear-down included.
TESTS = """
    import collections, json, os, random
    from asgiref.sync import sync_to_async
    from django.db import connection, transaction
    from django.db.backends.utils import CursorWrapper
    from django.test import SimpleTestCase, TestCase, TransactionTestCase
    from django.test.utils import CaptureQueriesContext
    from shelf.models import Book

    class Lasting(collections.deque):
        def clear(self):
            pass  # Django clears the log once a test is set up

    class Noted:
        def __call__(self, result=None):
            log, connection.queries_log = connection.queries_log, Lasting(maxlen=9000)
            with CaptureQueriesContext(connection) as captured:
                super().__call__(result)
            with open(os.environ["NOTES"], "a") as file:
                file.write(json.dumps([self.id(), len(captured)]) + "\\n")
            connection.queries_log = log

    class Isolated(Noted, TestCase):
        @classmethod
        def setUpTestData(cls):
            for number in range(4):
                Book.objects.create(title=str(number))

        def test_nothing(self):
            pass

        def test_fails(self):
            Book.objects.count()
            print("words")
            self.assertEqual(Book.objects.count(), 5)

        def test_num_queries(self):
            with self.assertNumQueries(2):
                Book.objects.create(title="one")
                self.assertEqual(list(Book.objects.filter(title="none")), [])

        async def test_asynchronous(self):
            await Book.objects.acreate(title="one")
            self.assertEqual(await sync_to_async(Book.objects.count)(), 5)

    class Flushing(Noted, TransactionTestCase):
        def test_commits(self):
            with transaction.atomic():
                Book.objects.create(title="one")
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                Book.objects.create(title="two")
                1 / 0

    class Unseen(TestCase):
        def test_wrappers(self):
            self.assertEqual(connection.execute_wrappers, [])
            seen = []
            def first(execute, *args):
                seen.append("first")
                return execute(*args)
            def second(execute, *args):
                seen.append("second")
                return execute(*args)
            with connection.execute_wrapper(first), connection.execute_wrapper(second):
                self.assertEqual(connection.execute_wrappers, [first, second])
                Book.objects.count()
            self.assertEqual(seen, ["first", "second"])

        def test_cursors(self):
            with connection.cursor() as cursor:
                self.assertIs(type(cursor), CursorWrapper)
            self.assertEqual(connection.queries, [])

    class Big(SimpleTestCase):
        def test_grows(self):
            Big.kept = bytearray(b"x") * 50_000_000
""" + "".join(
    f"""
    class Random{number}(Noted, TestCase):
        def test_random(self):
            chance = random.Random({number})
            for _ in range(chance.randrange(8)):
                chance.choice([
                    lambda: Book.objects.create(title="a"),
                    lambda: list(Book.objects.all()[:2]),
                    lambda: Book.objects.filter(title="a").update(title="b"),
                    lambda: Book.objects.bulk_create([Book(title="a")] * chance.randrange(4)),
                    lambda: Book.objects.all().delete(),
                    lambda: Book.objects.get_or_create(title="a"),
                ])()
"""
    for number in range(12)
)


def test_a_run_counts_as_django_does_for_tests_and_fixtures_apart(
    busy_fleet: Fleet, place: Path, tmp_path: Path
) -> None:
    # Given
    project, notes = make_project(place, TESTS), tmp_path / "notes"
    # When
    counted = busy_fleet.run(project, "--env", "NOTES", NOTES=str(notes)).json
    # Then
    used = {test["id"].removeprefix("test_it."): test["metrics"] for test in counted["tests"]}
    noted = dict(map(json.loads, notes.read_text().splitlines()))
    queries = {
        name.removeprefix("test_it."): used[name.removeprefix("test_it.")].get("queries", 0)
        for name in noted
    }
    assert queries == {name.removeprefix("test_it."): count for name, count in noted.items()}
    assert len(noted) == 17
    assert {test["id"]: test["message"] for test in counted["tests"] if test["message"]} == {
        "test_it.Isolated.test_fails": "AssertionError: 4 != 5"
    }
    # And more than queries
    assert used["Isolated.test_nothing"]["queries"] == 4
    assert (used["Isolated.test_num_queries"]["writes"], used["Isolated.test_fails"]["reads"]) == (
        1,
        2,
    )
    assert used["Isolated.test_fails"]["output_bytes"] == 6
    assert used["Big.test_grows"]["rss_growth"] > 40_000_000
    fixtures = {one["name"]: one for one in counted["fixture_metrics"]}
    assert fixtures["setUpClass (test_it.Isolated)"]["writes"] == 4
    [worker] = counted["worker_metrics"]
    of_fixtures = sum(one.get("queries", 0) for one in counted["fixture_metrics"])
    assert worker["queries"] == of_fixtures + sum(one.get("queries", 0) for one in used.values())


def test_without_metrics_nothing_is_counted(busy_fleet: Fleet, place: Path) -> None:
    # Given
    project = make_project(place)
    # When
    report = busy_fleet.run(project, "--no-metrics").json
    # Then
    assert [test["metrics"] for test in report["tests"]] == [{}] * 3
    assert "queries" not in report["worker_metrics"][0]
