import time

import pytest


@pytest.mark.timeout(0.3)
def test_hangs():
    time.sleep(20)


@pytest.mark.timeout(20)
def test_is_fast(): ...
