import warnings

warnings.warn("while it is imported", UserWarning)


def test_one(): ...
