import random

import pytest
from conftest import ran


@pytest.mark.parametrize("number", range(8))
def test_values(number, record_property, pytestconfig):
    if pytestconfig.pluginmanager.hasplugin("randomly"):
        record_property("value", random.random())


class TestOrder:
    @pytest.mark.parametrize("number", range(6))
    def test_order(self, number, record_property):
        before = ran[-1] if ran else ""
        record_property("before", before if before.startswith("test_order") else "")
