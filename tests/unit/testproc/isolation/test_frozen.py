"""What is frozen is thawed when somebody asks the garbage collector."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap

import pytest

PROJECT = """
    import gc
    import weakref
    from gc import collect, get_objects

    class Node:
        pass

    NODE = Node()
    NODE.itself = NODE
    GONE = weakref.ref(NODE)
"""


def run(script: str) -> str:
    """What a process prints that has frozen the project, when it runs the script."""
    freeze = """
    import gc
    from dct_celery.testproc.isolation.frozen import FROZEN_HEAP

    frozen = gc.get_freeze_count
    FROZEN_HEAP.watch()
    {}
    FROZEN_HEAP.freeze()
    assert frozen() > 1000
    """
    program = textwrap.dedent(freeze).format(textwrap.dedent(PROJECT)) + textwrap.dedent(script)
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("asks", ["gc.get_objects()", "get_objects()", "gc.get_referrers(Node)"])
def test_what_was_loaded_is_found(asks: str) -> None:
    # Given / When
    printed = run(f"print(NODE in {asks}, frozen(), gc.isenabled())")
    # Then
    assert printed == "True 0 True\n"


@pytest.mark.parametrize("asks", ["gc.collect()", "collect()", "collect(generation=2)"])
def test_what_was_loaded_is_freed(asks: str) -> None:
    # Given / When
    printed = run(f"del NODE; print(GONE() is None); print({asks} > 0, GONE() is None)")
    # Then
    assert printed == "False\nTrue True\n"


def test_who_does_not_ask_leaves_it_frozen() -> None:
    # Given / When
    printed = run("before = frozen(); [[] for _ in range(100_000)]; print(frozen() == before)")
    # Then
    assert printed == "True\n"


def test_it_is_frozen_again_after_the_project_has_asked_in_between() -> None:
    # Given / When
    printed = run("gc.collect(); FROZEN_HEAP.freeze(); print(frozen() > 0, gc.get_freeze_count())")
    # Then
    assert printed == "True 0\n"
    assert gc.get_freeze_count() == 0
