"""Failures and errors, and exceptions that are hard to carry from one process to another."""

import unittest
import warnings

from django.test import SimpleTestCase, TestCase

from catalog.models import Genre


class StableValues(SimpleTestCase):
    def test_assertion(self):
        self.assertEqual({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3]})

    def test_assertion_with_message(self):
        self.assertTrue(False, "the message")

    def test_bare_assert(self):
        assert 1 == 2, "bare"

    def test_error(self):
        raise ValueError("boom")

    def test_long_diff(self):
        self.assertEqual(list(range(300)), list(range(1, 301)))

    def test_max_diff_none(self):
        self.maxDiff = None
        self.assertEqual("a\n" * 50, "a\n" * 49 + "b\n")

    def test_message_of_a_megabyte(self):
        self.fail("x" * 2**20)

    def test_message_of_many_lines(self):
        self.fail("\n".join(f"line {number}" for number in range(5000)))

    def test_odd_characters(self):
        self.fail("NUL \x00 BEL \x07 ESC \x1b[31mred\x1b[0m C1 \x85\x9b nonchar \ufffe\uffff surrogate \ud800 astral 😀")

    def test_xml_and_json_characters(self):
        self.fail("<failure> & ]]> \" ' \\u0000 \u2028 %s {0}")

    def test_deep_recursion(self):
        def down(n):
            return down(n + 1) + 1

        down(0)

    def test_failure_in_a_cleanup(self):
        self.addCleanup(self.fail, "in a cleanup")

    def test_several_failing_cleanups(self):
        for number in range(3):
            self.addCleanup(self.fail, f"cleanup {number}")

    def test_database_error_of_a_model(self):
        Genre(name="x").save(using="nowhere")

    def test_a_warning_made_an_error(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.warn("now an error", UserWarning, stacklevel=1)


class SetUpAndTearDown(TestCase):
    def setUp(self):
        if "set_up" in self._testMethodName:
            raise ValueError("in setUp")

    def tearDown(self):
        if "tear_down" in self._testMethodName:
            raise ValueError("in tearDown")

    def test_set_up_errs(self):
        pass

    def test_tear_down_errs(self):
        pass

    def test_fails_and_tear_down_errs(self):
        self.fail("and then tearDown")


class Unpicklable(SimpleTestCase):
    def test_local_exception_class(self):
        class Local(Exception):
            pass

        raise Local("local")

    def test_local_assertion_class(self):
        class LocalAssertion(AssertionError):
            def __init__(self, a, b):
                super().__init__(f"{a} {b}")

        raise LocalAssertion("local", "assertion")

    def test_exception_that_holds_a_generator(self):
        raise ValueError("generator", (n for n in range(3)))

    def test_exception_that_refuses_to_pickle(self):
        class Refuses(Exception):
            def __reduce__(self):
                raise RuntimeError("no pickle")

        raise Refuses("refuses")

    def test_exception_without_a_string(self):
        class Mute(Exception):
            def __str__(self):
                raise RuntimeError("no str")

            __repr__ = __str__

        raise Mute

    def test_expected_failure_unpicklable(self):
        class Local(Exception):
            pass

        raise Local(lambda: None)

    test_expected_failure_unpicklable = unittest.expectedFailure(test_expected_failure_unpicklable)

    def test_sub_test_unpicklable(self):
        class Local(Exception):
            pass

        with self.subTest(parameter=lambda: None):
            raise Local(lambda: None)


class Chains(SimpleTestCase):
    def test_notes(self):
        error = ValueError("with notes")
        error.add_note("first note")
        error.add_note("second note \x00")
        raise error

    def test_group(self):
        raise ExceptionGroup("group", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])])

    def test_cause(self):
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("caused") from error

    def test_context(self):
        try:
            {}["missing"]
        except KeyError:
            raise ValueError("during")  # noqa: B904

    def test_cyclic_cause(self):
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    def test_syntax_error_in_the_test(self):
        compile("def (:", "made up.py", "exec")

    def test_import_error_in_the_test(self):
        import no_such_module_here  # noqa: F401

    def test_base_exception_group(self):
        raise ExceptionGroup("assertions", [AssertionError("inside a group")])


class CustomFailure(SimpleTestCase):
    class failureException(Exception):  # noqa: N801, N818
        pass

    def test_own_failure_exception(self):
        self.assertEqual(1, 2)

    def test_assertion_error_is_an_error_here(self):
        raise AssertionError("not our failureException")
