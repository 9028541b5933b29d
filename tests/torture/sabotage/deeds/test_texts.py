"""Texts that reports cannot hold, and exceptions that do not want to be looked at."""

import asyncio

from django.test import SimpleTestCase

ODD = "NUL \x00 ESC \x1b[31m BEL \x07 C1 \x9b high \ud800 low \udfff non \ufffe \uffff 😀 ]]> </failure>"


class Odd(SimpleTestCase):
    def test_message(self):
        """failed: NUL"""
        self.fail(ODD)

    def test_sub_test(self):
        """failed: NUL"""
        with self.subTest(ODD, **{ODD: ODD}):
            self.fail(ODD)

    def test_reason(self):
        """skipped: NUL"""
        self.skipTest(ODD)

    def test_output(self):
        """passed"""
        print(ODD.encode("utf-8", "backslashreplace").decode())


def _passes(self):
    pass


setattr(Odd, f"test_{ODD}", _passes)
LONG = type("Long" + "g" * 3000, (SimpleTestCase,), {"__module__": __name__, "test_" + "m" * 3000: _passes})


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __str__


class Exits(Exception):
    def __str__(self):
        raise SystemExit(0)

    __repr__ = __str__


class Interrupts(Exception):
    def __str__(self):
        raise KeyboardInterrupt

    __repr__ = __str__


class Long(Exception):
    def __str__(self):
        return "l" * 10_000_000

    __repr__ = __str__


class NoString(Exception):
    def __str__(self):
        return 3


class Sly(type):
    def __getattribute__(cls, name):
        if name in ("__module__", "__qualname__"):
            raise KeyError(name)
        return super().__getattribute__(name)


class Unpicklable(Exception):
    def __reduce__(self):
        raise RuntimeError("no pickle")


class Exceptions(SimpleTestCase):
    def test_str_raises(self):
        """error: <str() of the exception failed: RuntimeError>"""
        raise Mute

    def test_str_exits(self):
        """error: <str() of the exception failed: SystemExit>"""
        raise Exits

    def test_str_interrupts(self):
        """error: <str() of the exception failed: KeyboardInterrupt>"""
        raise Interrupts

    def test_str_is_no_string(self):
        """error: <str() of the exception failed: TypeError>"""
        raise NoString

    def test_10_megabytes(self):
        """error: llllllll"""
        raise Long

    def test_10_megabytes_in_a_comparison(self):
        """failed"""
        self.assertEqual(Long(), 1)

    def test_cyclic_causes(self):
        """error: first"""
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    def test_caused_by_itself(self):
        """error: itself"""
        error = ValueError("itself")
        error.__context__ = error
        raise error

    def test_a_thousand_causes(self):
        """error: 999"""
        error = None
        for number in range(1000):
            new = ValueError(str(number))
            new.__cause__ = error
            error = new
        raise error

    def test_unpicklable(self):
        """error: x"""
        raise Unpicklable("x", lambda: None)

    def test_recursion(self):
        """error: maximum recursion depth exceeded"""

        def down():
            return down() + 1

        down()

    def test_recursion_in_repr(self):
        """error"""
        values = []
        for _ in range(100_000):
            values = [values]
        raise ValueError(values)

    def test_class_hides_its_name(self):
        """error"""
        raise Sly("Hidden", (Exception,), {})("hidden")

    def test_cancelled(self):
        """error"""
        raise asyncio.CancelledError

    def test_comes_later(self):
        """passed"""
