import gc
import os
import sys
import weakref


class Imported:
    """Of each import of this module there is one, in a cycle with itself."""

    def __init__(self):
        self.itself = self


IMPORTED = [Imported()]


def test_arguments():
    assert os.path.basename(os.path.dirname(sys.argv[0])) == "pytest"
    assert not [word for word in sys.argv if "dct" in word]


def test_modules():
    assert not {"celery", "redis", "kombu"} & set(sys.modules)


def test_current_test():
    assert os.environ["PYTEST_CURRENT_TEST"].endswith("test_current_test (call)")


def test_folder(request):
    assert os.getcwd() == str(request.config.invocation_params.dir)


def test_temporary(tmp_path, tmp_path_factory):
    assert not list(tmp_path.iterdir())
    assert tmp_path.is_relative_to(tmp_path_factory.getbasetemp())


def test_cache(cache):
    cache.set("torture/x", 1)
    assert cache.get("torture/x", None) == 1


def test_plugins(pytestconfig):
    assert pytestconfig.pluginmanager.hasplugin("terminalreporter")
    assert pytestconfig.getoption("maxfail") in (0, 1, 2)


def test_garbage_collector_knows_what_imports_have_made():
    assert [one for one in gc.get_objects() if isinstance(one, Imported)] == IMPORTED
    assert IMPORTED in gc.get_referrers(IMPORTED[0])


def test_what_imports_have_made_goes_when_nobody_needs_it():
    gone = weakref.ref(IMPORTED.pop())
    gc.collect()
    assert gone() is None
