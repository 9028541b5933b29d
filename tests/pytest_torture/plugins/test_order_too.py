import shared_order


def test_between():
    shared_order.ran.append("between")
