import urllib.request

import pytest


@pytest.mark.vcr
@pytest.mark.block_network
def test_replayed():
    with urllib.request.urlopen("http://shop.example/price") as answer:
        assert answer.read() == b"17"


@pytest.mark.vcr
def test_not_recorded():
    urllib.request.urlopen("http://shop.example/other", timeout=1)
