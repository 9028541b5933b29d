import pytest
from conftest import SESSIONS

made = {"module": 0, "class": 0, "function": 0}


@pytest.fixture(scope="module")
def per_module(service):
    made["module"] += 1
    yield made["module"]
    raise OSError("the module is not torn down")


@pytest.fixture(scope="class")
def per_class():
    made["class"] += 1
    yield made["class"]


@pytest.fixture(params=["slow", "fast"], scope="module")
def engine(request):
    return request.param


def test_module_once(per_module):
    assert per_module == 1


class TestA:
    def test_one(self, per_module, per_class):
        assert (per_module, per_class) == (1, 1)

    def test_two(self, per_class):
        assert per_class == 1


class TestB:
    def test_three(self, per_class):
        assert per_class == 2

    def test_service(self, service):
        assert SESSIONS == ["service"]
        assert service.is_dir()


def test_engine(engine):
    assert engine in ("slow", "fast")


def test_engine_again(engine):
    raise AssertionError(engine)


def test_last(per_module):
    assert per_module == 1


def setup_module():
    made["set up"] = True


def teardown_module():
    assert made["set up"]
