import pytest

ODD = ["a::b", "c/d", "[", "]", " ", "", "\x00", "\n", "é", "\udc80", "%s", "'\"", "x" * 5000, "@group", "<&>"]


@pytest.mark.parametrize("text", ODD)
def test_odd(text):
    assert len(text) < 2


@pytest.mark.parametrize("number", [1, 1, 1])
def test_equal(number):
    assert number == 2


@pytest.mark.parametrize("word", {"one", "two", "three", "four"})
def test_of_a_set(word):
    assert word != "three"


class Same:
    class TestInner:
        def test(self): ...


class TestOuter:
    class TestInner:
        def test(self):
            raise AssertionError

        @pytest.mark.parametrize("a", [1, 2])
        @pytest.mark.parametrize("b", ["x", "y"])
        def test_both(self, a, b): ...
