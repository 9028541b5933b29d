"""Files of timings from Python, with the functions of django-concurrent-test.

    from dct_celery.timings import filter_timings, load_timings

    timings = load_timings("test_timings.json")
    for name, timing in filter_timings(timings, min_duration=5.0).items():
        print(f"{name}: {timing['duration']:.2f} s")

Timings are a dict by name: the id of a test, or "setUpClass (NAME)" for what a class costs besides
its tests. See docs/timings.md.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

from dct_celery.core.plan import timing_format
from dct_celery.core.plan.timing_format import BadTimings
from dct_celery.core.plan.timings import Sample
from dct_celery.errors import UsageError

__all__ = [
    "Timing",
    "export_timings_to_csv",
    "filter_timings",
    "import_timings_from_csv",
    "load_timings",
    "merge_timings",
    "save_timings",
]


class Timing(TypedDict):
    """What is known of one name."""

    #: Seconds.
    duration: float
    #: How many runs it is the average of; without it, the duration is only a hint for plans.
    count: NotRequired[int]


#: What functions take: what `load_timings` returns, or plain seconds.
Value = TypeVar("Value", bound=Timing | float)


def load_timings(file_path: str | os.PathLike[str]) -> dict[str, Timing]:
    """The timings of a file, sorted by name; none if there is no such file.

    Read are the files of dct, django-concurrent-test, pytest-split and Knapsack; CSV if it is
    called .csv. Raises UsageError for any other content.
    """
    return _load(file_path, csv=False)


def import_timings_from_csv(file_path: str | os.PathLike[str]) -> dict[str, Timing]:
    """The same from CSV, with the columns test_id, duration_seconds and perhaps count."""
    return _load(file_path, csv=True)


def save_timings(timings: Mapping[str, Timing | float], file_path: str | os.PathLike[str]) -> bool:
    """Replaces the file by these timings, in JSON; returns True. Raises UsageError if they are no
    timings, or the file cannot be written.
    """
    return _save(timings, file_path, csv=False)


def export_timings_to_csv(
    timings: Mapping[str, Timing | float], file_path: str | os.PathLike[str]
) -> bool:
    """The same in CSV."""
    return _save(timings, file_path, csv=True)


def filter_timings(
    timings: Mapping[str, Value], min_duration: float = 0.0, max_duration: float = math.inf
) -> dict[str, Value]:
    """Those that take so many seconds, the limits included."""
    return {
        name: value
        for name, value in timings.items()
        if min_duration <= _seconds(value) <= max_duration
    }


def merge_timings(timings1: Mapping[str, Value], timings2: Mapping[str, Value]) -> dict[str, Value]:
    """Both; where both have a name, the second one counts."""
    return {**timings1, **timings2}


def _seconds(value: Timing | float) -> float:
    return value if isinstance(value, int | float) else value["duration"]


def _load(file_path: str | os.PathLike[str], *, csv: bool) -> dict[str, Timing]:
    from dct_celery.dispatcher import timing_files

    path = Path(file_path)
    found: dict[str, Timing] = {}
    if path.exists():
        samples = timing_files.read(path, csv=csv)
        for name, sample, measured in timing_format.named(samples):
            found[name] = {"duration": sample.seconds}
            if measured:
                found[name]["count"] = sample.count
    return found


def _save(
    timings: Mapping[str, Timing | float], file_path: str | os.PathLike[str], *, csv: bool
) -> bool:
    from dct_celery.dispatcher import timing_files

    samples: dict[str, Sample] = {}
    try:
        for name, value in timings.items():
            found: Mapping[str, Any] = value if isinstance(value, Mapping) else {"duration": value}
            count = found.get("count")
            key = timing_format.key_of(name, measured=count is not None)
            samples[key] = timing_format.sample_of(name, found.get("duration"), count)
    except BadTimings as error:
        raise UsageError(f"what is to be saved in {file_path} {error}") from None
    timing_files.write(Path(file_path), samples, csv=csv)
    return True
