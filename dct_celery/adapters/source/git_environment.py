"""The environment of git, which is to answer for the folder that it is asked about.

In its own hooks git sets variables that name the repository of the hook, and an index.
"""

from __future__ import annotations

import os

_ELSEWHERE = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE"})


def git_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
