"""What a suite takes in one process, remembered with the timings of its project.

`dct try` measures it. It stands for runs of the very same tests, which the manifest's digest says.
"""

from __future__ import annotations

from collections.abc import Mapping

from dct_celery.core import codec
from dct_celery.core.model import SequentialTime

#: Name in the store; those of samples begin with "t:" and "c:".
_KEY = "s:sequential"


def encoded(time: SequentialTime) -> dict[str, str]:
    """As the store keeps it."""
    return {_KEY: codec.dumps(time)}


def remembered(stored: Mapping[str, str], digest: str) -> SequentialTime | None:
    """None where none is known of the tests with this digest, or what is stored is not valid."""
    try:
        found = codec.decode(SequentialTime, codec.loads(stored.get(_KEY, "")))
    except codec.Malformed:
        return None
    return found if found.digest == digest and found.seconds > 0 else None
