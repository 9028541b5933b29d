def test_still(house):
    assert house == 1
