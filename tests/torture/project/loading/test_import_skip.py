"""A module skipped at import. (One only: Django cannot shuffle two, their stand-ins share a name.)"""

import unittest

raise unittest.SkipTest("at import")
