"""What past runs teach about durations: samples, and the estimates made of them.

A sample belongs to a test ("t:" + id) or to a class ("c:" + name). The set-up and tear-down of a
class are kept apart from its tests, so that they count once however many of its tests are selected.
A hint ("h:" + id or path of a file) is what another tool has measured, somehow: plans are made with
it until a run of ours has measured, limits never. All times are seconds.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dct_celery.core.averages import moving
from dct_celery.core.model import Entry, Phase

#: Seconds of a test when no test was ever timed.
FALLBACK_SECONDS = 0.05

#: Name in the store of what building the templates of the databases takes.
TEMPLATES = "templates"
TEST = "t:"
CLASS = "c:"
HINT = "h:"
#: What names of samples begin with; others are not about tests.
NAMED = (TEST, CLASS, HINT)


@dataclass(frozen=True, slots=True)
class Sample:
    """Moving average of a duration in seconds, and its number of measurements.

    A sample of count 0 carries no information.
    """

    seconds: float
    count: int


def encode(sample: Sample) -> str:
    """The sample as stored: the JSON array `[seconds, count]`."""
    return json.dumps([sample.seconds, sample.count], separators=(",", ":"))


def decode(text: str) -> Sample | None:
    """Inverse of `encode`; None for anything but a finite, non-negative duration with a count."""
    try:
        value = json.loads(text)
        if not isinstance(value, list) or [type(part) for part in value] not in (
            [float, int],
            [int, int],
        ):
            return None
        sample = Sample(float(value[0]), value[1])
    except (ValueError, OverflowError, RecursionError):
        return None
    return sample if _is_duration(sample.seconds) and sample.count > 0 else None


def decode_all(stored: Mapping[str, str]) -> dict[str, Sample]:
    """The samples among what the store keeps, by key."""
    found = {name: decode(text) for name, text in stored.items()}
    return {name: sample for name, sample in found.items() if sample is not None}


def fold(old: Sample | None, seconds: float) -> Sample:
    """`old` updated by one measurement.

    A negative, NaN or infinite measurement changes nothing (None becomes count 0).
    """
    if old is None:
        old = Sample(0.0, 0)
    if not _is_duration(seconds):
        return old
    return Sample(moving(old.seconds if old.count else None, seconds), old.count + 1)


def test_key(entry: Entry) -> str:
    """Name of the entry's own sample in the store."""
    return TEST + entry.id


def class_key(entry: Entry) -> str:
    """Name of the sample of what the entry's class costs besides its tests."""
    return CLASS + entry.cls


def without_stale_hints(samples: Mapping[str, Sample]) -> dict[str, Sample]:
    """The samples but for hints at tests that runs have measured."""
    return {
        key: sample
        for key, sample in samples.items()
        if not (key.startswith(HINT) and TEST + key.removeprefix(HINT) in samples)
    }


class Estimates:
    """Predicted seconds, from stored samples.

    `entries` (the manifest) says which samples belong to which phase; without it `default` knows
    only the overall median, and hints at files say nothing. `folder`: that of the project below the
    root, where the paths of hints begin.
    """

    def __init__(
        self, samples: Mapping[str, Sample], entries: Iterable[Entry] = (), folder: str = "."
    ) -> None:
        self._samples = {
            key: s.seconds for key, s in samples.items() if s.count > 0 and _is_duration(s.seconds)
        }
        entries = list(entries)
        self._shares = self._shares_of_files(entries, folder)
        known: defaultdict[Phase, list[float]] = defaultdict(list)
        for entry in entries:
            seconds = self.planned(entry)
            if seconds is not None:
                known[entry.phase].append(seconds)
        self._medians = {phase: _median(values) for phase, values in known.items()}
        tests = [seconds for key, seconds in self._samples.items() if key.startswith(TEST)]
        self._overall = _median(tests) if tests else FALLBACK_SECONDS

    def test(self, entry: Entry) -> float | None:
        """Seconds of the test alone; None if no run has timed it."""
        return self._samples.get(test_key(entry))

    def planned(self, entry: Entry) -> float | None:
        """The same, else what a hint says of it or of its file; None if nothing is known."""
        for seconds in (self.test(entry), self._samples.get(HINT + entry.id)):
            if seconds is not None:
                return seconds
        return self._shares.get(entry.file or "")

    def class_cost(self, cls: str) -> float:
        """Seconds of the class's set-up and tear-down together; 0 if never timed."""
        return self._samples.get(CLASS + cls, 0.0)

    def default(self, phase: Phase) -> float:
        """Seconds of a test never timed.

        The median of its phase, else of all tests, else FALLBACK_SECONDS.
        """
        return self._medians.get(phase, self._overall)

    def _shares_of_files(self, entries: Iterable[Entry], folder: str) -> dict[str, float]:
        """File -> its seconds for each of its tests, where a hint is all that is known of them."""
        tests: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            tests[entry.file or ""].append(entry)
        start = "" if folder == "." else f"{folder}/"
        shares = {}
        for file, those in tests.items():
            inside = file.startswith(start)
            seconds = self._samples.get(HINT + file.removeprefix(start)) if inside else None
            if seconds is not None and all(self.test(entry) is None for entry in those):
                shares[file] = seconds / len(those)
        return shares


def learn(
    verdicts: Iterable[tuple[Entry, float]],
    class_costs: Mapping[str, float],
    old: Mapping[str, Sample],
) -> dict[str, Sample]:
    """The samples to store after a run, by key; samples that the run did not change are left out.

    `verdicts`: (entry, seconds) of the tests that ran. `class_costs`: class name -> seconds of
    set-up and tear-down. Entries that share an id share a sample: their mean is folded once,
    because the plan asks once for each of them.
    """
    measured: defaultdict[str, list[float]] = defaultdict(list)
    for entry, seconds in verdicts:
        measured[test_key(entry)].append(seconds)
    for cls, seconds in class_costs.items():
        measured[CLASS + cls].append(seconds)
    new = {}
    for key, values in measured.items():
        valid = [seconds for seconds in values if _is_duration(seconds)]
        if valid:
            new[key] = fold(old.get(key), sum(valid) / len(valid))
    return new


def _is_duration(seconds: float) -> bool:
    return math.isfinite(seconds) and seconds >= 0


def _median(values: list[float]) -> float:
    # Not `statistics`: it imports random, fractions and decimal.
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
