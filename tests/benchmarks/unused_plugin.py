"""What a pytest pays that does not use dct: `python -m tests.benchmarks.unused_plugin [--pairs N]`.

The same process of pytest with one empty test and without the plugins of others, with this
package's entry point and without it, in turns. Printed are the medians, and the median of the
differences within pairs, with the range that it has with 95 % confidence (of its rank, so no
distribution is assumed).
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path

#: Of the entry point.
_PLUGIN = "dct_celery.pytest_plugin"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=100, metavar="N")
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        _measure(folder, with_plugin=True)  # writes what is compiled
        found = [_pair(folder, first=number % 2 == 0) for number in range(pairs)]
    for title, column in (("wall", 0), ("CPU", 1)):
        having = [one[column] for one, _ in found]
        lacking = [other[column] for _, other in found]
        low, middle, high = _middle([a - b for a, b in zip(having, lacking, strict=True)])
        print(
            f"{title:<5} with {statistics.median(having) * 1000:,.1f} ms,"
            f" without {statistics.median(lacking) * 1000:,.1f} ms;"
            f" difference {middle * 1000:+.2f} ms ({low * 1000:+.2f} to {high * 1000:+.2f})"
        )
    return 0


def _pair(folder: str, *, first: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    """(wall, CPU) with the plugin, and without; `first`: the one with it goes first."""
    measured = {one: _measure(folder, with_plugin=one) for one in (first, not first)}
    return measured[True], measured[False]


def _measure(folder: str, *, with_plugin: bool) -> tuple[float, float]:
    """Seconds of one process: wall, CPU."""
    # As many words in both: what is blocked in the other one is no plugin.
    blocked = [*_others(), "no-such-plugin" if with_plugin else _PLUGIN]
    options = [word for name in blocked for word in ("-p", f"no:{name}")]
    begun, before = time.perf_counter(), _cpu()
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - begun, _cpu() - before


def _others() -> list[str]:
    """Names of the other plugins in this environment."""
    found = {entry.name for entry in entry_points(group="pytest11")}
    return sorted(found - {_PLUGIN})


def _cpu() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _middle(values: list[float]) -> tuple[float, float, float]:
    """The median, between the ends of its range."""
    ordered = sorted(values)
    half = 0.98 * math.sqrt(len(ordered))
    low = max(int(len(ordered) / 2 - half), 0)
    high = min(math.ceil(len(ordered) / 2 + half), len(ordered) - 1)
    return ordered[low], statistics.median(ordered), ordered[high]


if __name__ == "__main__":
    sys.exit(main())
