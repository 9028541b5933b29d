import pytest
import shared_order

ran = shared_order.ran


@pytest.mark.order(2)
def test_second():
    ran.append("second")
    assert ran == ["first", "second"]


@pytest.mark.order(1)
def test_first():
    ran.append("first")


@pytest.mark.order(after="test_order_too.py::test_between")
def test_after_another_file():
    assert ran == ["first", "second", "between"]
