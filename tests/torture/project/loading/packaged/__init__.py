"""A package with load_tests of its own: discovery does not go into it, load_tests says what is in it."""

import unittest


class InThePackage(unittest.TestCase):
    def test_loaded_by_the_package(self):
        pass


def load_tests(loader, tests, pattern):
    suite = unittest.TestSuite()
    suite.addTests(loader.loadTestsFromTestCase(InThePackage))
    suite.addTests(loader.loadTestsFromName("loading.packaged.cases"))
    return suite
