import random

import pytest
from conftest import ran


@pytest.mark.parametrize("number", range(8))
def test_values(number, record_property, pytestconfig):
    if pytestconfig.pluginmanager.hasplugin("randomly"):
        record_property("value", random.random())


class TestOrder:
    @pytest.mark.parametrize("number", range(6))
    def test_order(self, number, record_property, request):
        of_the_class = request.node.parent.nodeid
        before = [one for one in ran if one.startswith(of_the_class)]
        record_property("before", before[-1:])
