def test_adds(metadata):
    metadata["Shop"] = {"version": "7"}


def test_has(metadata):
    assert metadata["who"] == "me"
