def test_metadata(json_metadata):
    json_metadata["colour"] = "red"
    json_metadata["sizes"] = [1, 2]
