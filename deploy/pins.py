"""Writes constraints.txt: the newest versions of all extras and dependency groups that fit
together.

Run it with the oldest Python that is supported, so that the versions suit the others, too:

    .cache/test-venv/bin/python deploy/pins.py [OTHER-PYTHON...]

Each other Python is asked what it needs besides; that is added with a marker. Names and versions
alone are written, so the file says nothing of the package index that they were found on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "constraints.txt"


def main() -> int:
    """Resolve for this Python, then for the others; write the file."""
    pins = resolve(sys.executable, {})
    markers = dict.fromkeys(pins, "")
    for python in sys.argv[1:]:
        more = {
            name: version for name, version in resolve(python, pins).items() if name not in pins
        }
        pins |= more
        minor = minor_version(python)
        # An older patch release of our own Python may need what we do not.
        marker = "" if minor == minor_version(sys.executable) else f' ; python_version >= "{minor}"'
        markers |= dict.fromkeys(more, marker)
    lines = [f"{name}=={pins[name]}{markers[name]}\n" for name in sorted(pins, key=str.lower)]
    FILE.write_text("".join(lines))
    print(f"{FILE.name}: {len(lines)} versions")
    return 0


def resolve(python: str, pins: Mapping[str, str]) -> dict[str, str]:
    """Name to version of what this Python would install, preferring these versions."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
        report = Path(folder, "report.json")
        options = [
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--report",
            str(report),
            "-c",
            str(constraints),
        ]
        packages = ["-e", ".[all]", "--group", "dev", "--group", "plugins"]
        pip = [sys.executable, "-m", "pip", "--python", python, "install"]
        subprocess.run([*pip, *options, *packages], cwd=ROOT, check=True)
        found = (entry["metadata"] for entry in json.loads(report.read_text())["install"])
        return {entry["name"]: entry["version"] for entry in found if entry["name"] != "dct_celery"}


def minor_version(python: str) -> str:
    """Of the interpreter: 3.13."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
