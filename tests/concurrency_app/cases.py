"""What the tools of dct_celery.testing claim, in Django's own test cases, on one vendor.

tests/integration/test_concurrency_tools.py runs them on each.
"""

from __future__ import annotations

import datetime
import random
import threading
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from unittest import TestCase as PlainTestCase

from django.conf import settings
from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import F
from django.test import (
    AsyncClient,
    Client,
    RequestFactory,
    SimpleTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)
from rest_framework.test import APIClient, APITestCase, APITransactionTestCase

from dct_celery.errors import UsageError
from dct_celery.testing import (
    assert_concurrent_safety,
    auto_register_middleware,
    concurrent_test_context,
    get_test_override,
    reset_test_overrides,
    set_test_override,
    simulate_concurrent_requests,
)
from tests.concurrency_app import faults, views
from tests.concurrency_app.models import Account, Booking, Thing

SAFETY = ["dct_celery.testing.ConcurrentSafetyMiddleware"]
MUTATION = ["dct_celery.testing.StateMutationMiddleware"]
SIMULATION = ["dct_celery.testing.ConcurrencySimulationMiddleware"]


def said(function: Any, **options: Any) -> str:
    """What assert_concurrent_safety finds; "" if it finds nothing."""
    try:
        assert_concurrent_safety(function, **{"seed": 1, "iterations": 4, **options})
    except AssertionError as error:
        return str(error)
    return ""


class WithAccounts(TransactionTestCase):
    def setUp(self) -> None:
        for number in (1, 2):
            Account.objects.create(pk=number, balance=100)


class Calls(WithAccounts):
    """assert_concurrent_safety on functions."""

    def test_planted_faults_are_found_and_their_twins_pass(self) -> None:
        # Given a server's own search for deadlocks, which may take a second
        timeout = 0.5 if connection.vendor == "sqlite" else 5.0
        for fault in faults.FAULTS:
            with self.subTest(fault.name):
                # When
                found = [said(fault.faulty(), seed=seed, timeout=timeout) for seed in range(3)]
                # Then
                word = "deadlock" if fault.name == "deadlock" else "one after the other"
                self.assertTrue(all(word in message for message in found), found)
                self.assertEqual(said(fault.sound()), "")

    def test_the_message_names_what_differs_the_seed_and_the_steps(self) -> None:
        # When
        message = said(faults.deposit_read_and_written, seed=77, max_workers=2)
        # Then
        first, *rest = message.splitlines()
        self.assertEqual(
            first,
            "deposit_read_and_written() in 2 threads: concurrency_app_account[1].balance is 110; "
            "one after the other it is 120",
        )
        self.assertIn("Again: assert_concurrent_safety(…, seed=77), in round 1 of 4.", message)
        self.assertTrue(any("thread 2: UPDATE" in line for line in rest), message)

    def test_one_seed_makes_the_same_steps_again(self) -> None:
        # Given
        messages = {said(faults.count_on_a_global, seed=5) for _ in range(3)}
        others = {said(faults.count_on_a_global, seed=seed) for seed in range(3)}
        # Then
        self.assertEqual(len(messages), 1)
        self.assertEqual(len(others), 3)

    def test_nothing_stays_of_a_check(self) -> None:
        # Given
        first = Thing.objects.create(
            account_id=1,
            data={"a": [1, None, "ü"]},
            price=Decimal("1.250"),
            raw=b"\0\xff",
            made_at=datetime.datetime(2020, 2, 3, 4, 5, 6, 789, datetime.UTC),
            share=0.1,
            day=datetime.date(2020, 1, 1),
            took=datetime.timedelta(days=1, microseconds=5),
            token=uuid.UUID(int=7),
            on=True,
            label="one",
        )
        second = Thing.objects.create(label="two")
        first.others.add(second)
        before = [list(model.objects.order_by("pk").values()) for model in (Thing, Account)]

        def change_everything() -> None:
            with faults.one_at_a_time():
                Thing.objects.filter(label="two").delete()
                Thing.objects.filter(label="one").update(
                    data={},
                    price=5,
                    raw=b"",
                    made_at=None,
                    day=None,
                    took=None,
                    token=None,
                    share=2.5,
                    on=False,
                    account=None,
                )
                Thing.objects.create(label="new")
                Account.objects.filter(pk=2).delete()
                cache.set("key", "value")
                mail.send_mail("subject", "body", "a@example.org", ["b@example.org"])
                views.visits += 1

        # When
        self.assertEqual(said(change_everything, iterations=2), "")
        # Then
        after = [list(model.objects.order_by("pk").values()) for model in (Thing, Account)]
        self.assertEqual(after, before)
        self.assertEqual(list(first.others.all()), [second])
        self.assertEqual((cache.get("key"), mail.outbox, views.visits), (None, [], 0))

    def test_what_a_function_does_to_its_connection_is_its_own(self) -> None:
        # Given
        def reconfigure() -> int:
            connection.settings_dict["CONN_MAX_AGE"] = 7
            return Account.objects.count()

        before = dict(connection.settings_dict)
        # When
        found = said(reconfigure)
        # Then
        self.assertEqual(found, "")
        self.assertEqual(connection.settings_dict, before)

    def test_what_differs_by_chance_is_none(self) -> None:
        # Given
        def create_user() -> User:
            name = f"user_{time.time()}{random.random()}"
            return User.objects.create_user(name, "test@example.com", "secret")

        # Then
        assert_concurrent_safety(create_user, max_workers=4, iterations=2)

    def test_any_order_of_different_calls_will_do(self) -> None:
        # Given
        def double() -> int:
            with transaction.atomic():
                account = Account.objects.select_for_update().get(pk=1)
                account.balance *= 2
                account.save()
            return account.balance

        # Then
        self.assertEqual(said([double, faults.deposit_locked]), "")
        self.assertIn("balance", said([double, faults.deposit_read_and_written]))

    def test_a_call_that_says_it_did_nothing_needs_no_place_in_the_order(self) -> None:
        # Given
        class Conflict(Exception):
            pass

        def deposit_if_unchanged() -> None:
            account = Account.objects.get(pk=1)
            changed = Account.objects.filter(pk=1, version=account.version).update(
                balance=account.balance + 10, version=F("version") + 1
            )
            if not changed:
                raise Conflict

        # Then
        self.assertIn("raised", said(deposit_if_unchanged))
        self.assertEqual(said(deposit_if_unchanged, refused=Conflict), "")
        self.assertEqual(
            said(deposit_if_unchanged, refused=lambda outcome: isinstance(outcome, Conflict)), ""
        )

    def test_an_invariant_is_asked_after_each_round(self) -> None:
        # Given
        def book_anything() -> None:
            if Booking.objects.count() < 1:
                Booking.objects.create(seat=random.randrange(10**9))

        def one_booking() -> bool:
            return Booking.objects.count() <= 1

        # Then
        self.assertIn("one_booking() returned False", said(book_anything, invariant=one_booking))

    def test_setup_runs_before_each_round(self) -> None:
        # Given
        rounds = []

        def clear() -> None:
            rounds.append(Booking.objects.count())
            Booking.objects.create(seat=7)

        # When
        found = said(faults.book_if_free, setup=clear, iterations=2, ignore=["rounds*"])
        # Then
        self.assertEqual(found, "")

    def test_what_is_ignored_may_differ(self) -> None:
        self.assertEqual(
            said(
                faults.deposit_read_and_written,
                ignore=["concurrency_app_account.balance", "deposit_read_and_written()*"],
            ),
            "",
        )

    def test_a_function_that_fails_alone_is_named_so(self) -> None:
        # Given
        def typo() -> None:
            raise NameError("name 'Acount' is not defined")

        # Then
        self.assertEqual(
            said(typo), "typo() fails without concurrency: NameError: name 'Acount' is not defined"
        )

    def test_what_hangs_alone_is_named_so(self) -> None:
        # Given
        never = threading.Event()

        def wait_for_ever() -> None:
            never.wait()

        # Then
        message = said(wait_for_ever, timeout=0.3)
        never.set()
        self.assertIn("do not end, one after the other", message)
        self.assertIn("cases.py", message)

    def test_a_deadlock_across_python_and_the_database_leaves_no_lock(self) -> None:
        if connection.vendor == "sqlite":
            self.skipTest("a transaction of SQLite locks the whole file")
        # Given
        lock = threading.Lock()

        def row_then_lock() -> None:
            with faults.one_at_a_time(), lock:
                pass

        def lock_then_row() -> None:
            with lock, faults.one_at_a_time():
                pass

        # Then
        self.assertIn(
            "a deadlock: 2 of them did not go on", said([row_then_lock, lock_then_row], timeout=0.7)
        )
        Account.objects.filter(pk=1).update(balance=3)

    def test_async_functions_are_called_too(self) -> None:
        # Given
        async def deposit() -> None:
            account = await Account.objects.aget(pk=1)
            account.balance += 10
            await account.asave()

        async def deposit_in_one_statement() -> None:
            await Account.objects.filter(pk=1).aupdate(balance=F("balance") + 10)

        # Then
        self.assertIn("balance", said(deposit))
        self.assertEqual(said(deposit_in_one_statement), "")

    def test_a_race_through_a_cache_is_found(self) -> None:
        # Given
        def count() -> None:
            cache.set("visits", cache.get("visits", 0) + 1)

        def count_soundly() -> None:
            cache.add("visits", 0)
            cache.incr("visits")

        # Then
        self.assertIn("cache[':1:visits']", said(count))
        self.assertEqual(said(count_soundly), "")

    def test_a_mail_that_is_sent_twice_is_found(self) -> None:
        # Given
        def welcome() -> None:
            account = Account.objects.get(pk=1)
            if not account.version:
                mail.send_mail("welcome", "", "a@example.org", ["b@example.org"])
                Account.objects.filter(pk=1).update(version=1)

        # Then
        self.assertIn("mail", said(welcome))

    def test_queries_of_the_check_are_none_of_the_tests(self) -> None:
        # Given
        def counted() -> None:
            with self.assertNumQueries(1):
                Account.objects.filter(pk=1).update(balance=F("balance") + 1)

        # Then
        self.assertEqual(said(counted, ignore=["Calls*"], iterations=2), "")


class Views(WithAccounts):
    """assert_concurrent_safety on requests."""

    def test_a_view_that_loses_an_update_is_found(self) -> None:
        self.assertIn("account[1].balance", said(lambda: self.client.post("/deposit/")))
        self.assertEqual(said(lambda: self.client.post("/deposit-sound/")), "")

    def test_an_async_view_is_called_too(self) -> None:
        self.assertIn("account[1].balance", said(lambda: AsyncClient().post("/deposit-async/")))

    def test_what_a_view_raises_is_raised_in_its_own_thread(self) -> None:
        # Given a client that is shared, and a view that raises for all calls but one
        self.assertEqual(said(lambda: self.client.post("/book-or-fail/")), "")

    def test_a_global_of_a_view_is_seen(self) -> None:
        self.assertIn("views.visits is", said(lambda: self.client.get("/visit/")))


class InATransaction(TestCase):
    def test_a_check_with_the_database_is_refused_in_one_line(self) -> None:
        # When
        with self.assertRaises(UsageError) as caught:
            assert_concurrent_safety(lambda: Account.objects.count())
        # Then
        message = str(caught.exception)
        self.assertNotIn("\n", message)
        self.assertIn("use TransactionTestCase", message)
        self.assertIn("'default'", message)

    def test_so_are_requests(self) -> None:
        with self.assertRaisesMessage(UsageError, "simulate_concurrent_requests() needs threads"):
            simulate_concurrent_requests(lambda client: client.get("/deposit/"))

    def test_a_check_without_the_database_works(self) -> None:
        self.assertIn("served", said(faults.count_on_a_global))
        self.assertEqual(said(faults.count_locked), "")


class WithoutDatabase(SimpleTestCase):
    def test_djangos_own_message_comes_through(self) -> None:
        self.assertIn("are not allowed in SimpleTestCase", said(lambda: Account.objects.count()))


class Requests(WithAccounts):
    """simulate_concurrent_requests."""

    def test_each_client_answers_and_what_it_commits_stays(self) -> None:
        for client in (None, self.client, Client(), APIClient(), AsyncClient()):
            with self.subTest(type(client).__name__):
                before = Account.objects.get(pk=1).balance
                # When
                answers = simulate_concurrent_requests(
                    lambda client: client.post("/deposit-sound/"), num_requests=4, client=client
                )
                # Then
                self.assertEqual(answers.statuses, [200] * 4)
                self.assertEqual(answers.errors, [])
                self.assertTrue(all(0 < seconds < 10 for seconds in answers.latencies))
                self.assertEqual(Account.objects.get(pk=1).balance, before + 40)
                self.assertIn("4 × 200", repr(answers))

    def test_a_lost_update_shows_in_the_database(self) -> None:
        # Given
        together = threading.Barrier(4)

        def deposit() -> int:
            account = Account.objects.get(pk=1)
            together.wait(10)
            account.balance += 10
            account.save()
            return account.balance

        # When
        simulate_concurrent_requests(deposit, num_requests=4)
        # Then
        self.assertEqual(Account.objects.get(pk=1).balance, 110)

    def test_what_a_view_raises_is_an_error_of_its_request(self) -> None:
        # When
        answers = simulate_concurrent_requests(lambda client: client.get("/fail/"), num_requests=2)
        # Then
        self.assertEqual([one.status for one in answers], ["error", "error"])
        self.assertEqual([str(error) for error in answers.errors], ["on purpose"] * 2)
        self.assertEqual(answers[0]["error"], "on purpose")

    def test_a_client_that_is_logged_in_stays_so(self) -> None:
        # Given
        self.client.force_login(User.objects.create_user("ann"))
        # When
        answers = simulate_concurrent_requests(
            lambda client: client.get("/look-at-cart/").wsgi_request.user.username,
            num_requests=3,
            client=self.client,
        )
        # Then
        self.assertEqual([one.result for one in answers], ["ann"] * 3)

    def test_the_spelling_of_the_ancestor_works(self) -> None:
        # Given
        factory = RequestFactory()

        def make_request() -> int:
            return views.plain(factory.get("/api/users/")).status_code

        # When
        results = simulate_concurrent_requests(
            make_request, num_requests=10, delay_range=(0.0, 0.01)
        )
        # Then
        self.assertEqual(len([r for r in results if r["status"] == "success"]), 10)
        self.assertEqual(results.statuses, [200] * 10)

    def test_a_request_without_answer_is_an_error(self) -> None:
        # Given
        never = threading.Event()
        # When
        answers = simulate_concurrent_requests(lambda: never.wait(5), num_requests=2, timeout=0.2)
        never.set()
        # Then
        self.assertEqual([str(error) for error in answers.errors], ["no answer within 0.2 s"] * 2)


class RestFramework(APITransactionTestCase):
    """Viewsets, serializers and authentication of DRF."""

    def setUp(self) -> None:
        Account.objects.create(pk=1)
        User.objects.create_user("ann", password="secret")
        self.client.credentials(HTTP_AUTHORIZATION="Basic YW5uOnNlY3JldA==")

    def post(self, path: str) -> Callable[[], object]:
        return lambda: self.client.post(path, {"seat": 7})

    def test_a_viewset_that_checks_and_then_acts_is_found(self) -> None:
        self.assertRegex(
            said(self.post("/api/bookings/")),
            "[2-4] new rows of concurrency_app_booking; one after the other 1",
        )
        self.assertEqual(said(self.post("/api/sound-bookings/")), "")

    def test_a_serializer_that_shares_state_is_found(self) -> None:
        # Given
        def validate() -> bool:
            return views.RememberingSerializer(data={"name": "ann"}).is_valid()

        def validate_soundly() -> bool:
            return views.BookingSerializer(data={"seat": 3}).is_valid()

        # Then
        self.assertIn("RememberingSerializer.names", said(validate))
        self.assertEqual(said(validate_soundly), "")

    def test_authentication_that_mixes_users_up_is_found(self) -> None:
        # Given
        def asked(path: str) -> list[Callable[[], object]]:
            return [
                lambda: APIClient().get(path, headers={"X-Name": "ann"}).json(),
                lambda: APIClient().get(path, headers={"X-Name": "bob"}).json(),
            ]

        # Then
        self.assertIn(
            "results of", said(asked("/who-am-i/"), ignore=["*.ForgetfulAuthentication.name"])
        )
        self.assertEqual(said(asked("/who-am-i-sound/")), "")

    def test_apiclient_is_simulated_with_its_credentials(self) -> None:
        # When
        answers = simulate_concurrent_requests(
            lambda client: client.post("/api/sound-bookings/", {"seat": 7}),
            num_requests=3,
            client=self.client,
        )
        # Then
        self.assertEqual(sorted(answers.statuses), [201, 400, 400])


class RestFrameworkInATransaction(APITestCase):
    def test_the_message_names_the_class_to_use(self) -> None:
        with self.assertRaisesMessage(UsageError, "APITransactionTestCase"):
            assert_concurrent_safety(lambda: views.BookingSerializer(data={"seat": 1}).is_valid())


class Middleware(WithAccounts):
    """The three, each with a fault and a sound twin."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(reset_test_overrides)
        self.addCleanup(setattr, views, "together", views.together)

    def requests(self, *paths: str) -> list[str]:
        """Asks for all at the same time, in one session; what the middleware found."""
        views.together = threading.Barrier(len(paths))
        self.client.force_login(User.objects.get_or_create(username="ann")[0])
        waiting = list(paths)
        with concurrent_test_context(probability=0.0) as findings:
            answers = simulate_concurrent_requests(
                lambda client: client.get(waiting.pop()), len(paths), client=self.client
            )
        self.assertEqual(answers.statuses, [200] * len(paths), answers.errors)
        return [f"{finding.kind}: {finding}" for finding in findings]

    @override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, *SAFETY])
    def test_a_session_that_is_overwritten_is_reported(self) -> None:
        # When
        found = self.requests("/add-to-cart/?item=a", "/add-to-cart/?item=b")
        # Then
        self.assertEqual(
            found,
            [
                "session: GET /add-to-cart/ overwrote in its session what GET /add-to-cart/ had "
                "saved since it was read: cart"
            ],
        )

    @override_settings(MIDDLEWARE=[*SAFETY, *settings.MIDDLEWARE])
    def test_a_session_that_is_only_read_is_not(self) -> None:
        self.assertEqual(self.requests("/add-to-cart/?item=a", "/look-at-cart/"), [])

    @override_settings(MIDDLEWARE=SAFETY)
    def test_a_global_that_changes_under_two_requests_is_reported(self) -> None:
        views.together = threading.Barrier(2)
        # When
        with concurrent_test_context(probability=0.0) as findings:
            simulate_concurrent_requests(lambda client: client.get("/visit/"), 2)
        views.together = threading.Barrier(1)
        # Then
        (finding,) = findings
        self.assertIn("tests.concurrency_app.views.visits changed while GET /visit/", str(finding))
        with concurrent_test_context(probability=0.0) as findings:
            simulate_concurrent_requests(lambda client: client.get("/plain/"), 4)
        self.assertEqual(findings, [])

    @override_settings(MIDDLEWARE=SAFETY)
    def test_a_slow_request_is_reported(self) -> None:
        # When
        with (
            concurrent_test_context(slow_request_seconds=0.04) as findings,
            self.assertLogs("dct_celery.testing", "WARNING"),
        ):
            self.client.get("/slow/")
        # Then
        self.assertRegex(str(findings[0]), r"GET /slow/ took 0\.\d\d s")
        with concurrent_test_context() as findings:
            self.client.get("/slow/")
        self.assertEqual(findings, [])

    @override_settings(MIDDLEWARE=MUTATION)
    def test_settings_and_globals_that_a_request_changes_are_reported(self) -> None:
        self.addCleanup(settings.SHOP.update, currency="EUR")
        # When
        with concurrent_test_context() as findings:
            self.client.get("/plain/")
            self.assertEqual(findings, [])
            self.client.get("/change-settings/?currency=USD")
            self.client.get("/visit/")
        # Then
        self.assertEqual(
            [str(finding) for finding in findings],
            [
                "GET /change-settings/ changed settings.SHOP['currency']",
                "GET /visit/ changed tests.concurrency_app.views.visits",
            ],
        )
        with concurrent_test_context(ignore=["tests.concurrency_app.views.*"]) as findings:
            self.client.get("/visit/")
        self.assertEqual(findings, [])

    @override_settings(MIDDLEWARE=SIMULATION)
    def test_requests_are_delayed_as_often_and_as_long_as_wanted(self) -> None:
        for path, client in (("/plain/", Client()), ("/plain-async/", AsyncClient())):
            with (
                self.subTest(path=path),
                concurrent_test_context(delay_range=(0.1, 0.1), probability=1.0),
            ):
                # When
                (answer,) = simulate_concurrent_requests(
                    lambda client, path=path: client.get(path), 1, client=client
                )
                # Then
                self.assertEqual(answer.status_code, 200)
                self.assertGreaterEqual(answer.seconds, 0.1)

    @override_settings(MIDDLEWARE=[*SAFETY, *MUTATION, *SIMULATION])
    def test_async_requests_are_watched_too(self) -> None:
        # When
        with concurrent_test_context(probability=0.0, slow_request_seconds=1e-9) as findings:
            answers = simulate_concurrent_requests(
                lambda client: client.get("/plain-async/"), 2, client=AsyncClient()
            )
        # Then
        self.assertEqual(answers.statuses, [200, 200])
        self.assertEqual([finding.kind for finding in findings], ["slow request"] * 2)

    @override_settings(MIDDLEWARE=[*SAFETY, *MUTATION, *SIMULATION])
    def test_nothing_is_done_while_it_is_disabled(self) -> None:
        with concurrent_test_context(enabled=False, slow_request_seconds=1e-9) as findings:
            response = self.client.get("/visit/")
        # Then
        self.assertEqual(findings, [])
        self.assertFalse(hasattr(response.wsgi_request, "concurrent_request_id"))

    @override_settings(MIDDLEWARE=list(SAFETY))
    def test_what_is_missing_is_registered_once(self) -> None:
        # When
        added = auto_register_middleware()
        # Then
        self.assertEqual(added, [*MUTATION, *SIMULATION])
        self.assertEqual(settings.MIDDLEWARE, [*SAFETY, *MUTATION, *SIMULATION])
        self.assertEqual(auto_register_middleware(), [])

    @override_settings(CONCURRENT_TEST_PROBABILITY=0.9)
    def test_settings_change_the_defaults(self) -> None:
        self.assertEqual(get_test_override("probability"), 0.9)
        set_test_override("probability", 0.1)
        self.assertEqual(get_test_override("probability"), 0.1)
        reset_test_overrides()
        self.assertEqual(get_test_override("probability"), 0.9)


class Plain(PlainTestCase):
    def test_a_plain_test_case_may_check_what_needs_no_database(self) -> None:
        self.assertEqual(said(faults.count_locked), "")
