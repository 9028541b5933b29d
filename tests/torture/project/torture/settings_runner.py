"""The same project under a runner of its own, and with `other` made without migrations."""

from .settings import *
from .settings import DATABASES

TEST_RUNNER = "torture.runner.HouseRunner"
DATABASES["other"].setdefault("TEST", {})["MIGRATE"] = False
