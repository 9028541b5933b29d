def test_same_house(house):
    assert house == 1


def test_no_house(): ...
