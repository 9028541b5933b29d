"""Claims about stdout and stderr that go away: no traceback, the right exit code, and everything
else is done to its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: A command that prints more than any buffer holds, leaves a file behind and ends with a code of
#: its own.
PROGRAM = """
import sys
from pathlib import Path
from dct_celery.cli import streams
streams.take()
for _ in range(20_000):
    sys.stdout.write("a line that nobody may want to read\\n")
    print("a line on stderr", file=sys.stderr)
Path("done").write_text("done")
sys.exit(7)
"""


def end_of(redirection: str, folder: Path) -> tuple[int, str]:
    """Exit code and stderr of the program under `sh`, which writes its code into a file."""
    script = f'({sys.executable} -c "$PROGRAM"; echo $? > code) {redirection}'
    done = subprocess.run(
        ["sh", "-c", script], env={**os.environ, "PROGRAM": PROGRAM}, cwd=folder,
        capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (folder / "done").exists(), done.stderr
    return int((folder / "code").read_text()), done.stderr.replace("a line on stderr\n", "")


@pytest.mark.parametrize(
    "redirection", ["| head -n 1", "2>&1 | head -n 1", ">&-", ">&- 2>&-", "2>&-", "<&- >&-"]
)
def test_a_reader_that_goes_away_costs_nothing(tmp_path: Path, redirection: str) -> None:
    assert end_of(redirection, tmp_path) == (7, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_one_line_on_stderr(tmp_path: Path) -> None:
    # When
    code, err = end_of("> /dev/full", tmp_path)
    # Then
    assert (code, err) == (
        7,
        "dct: warning: output to stdout is lost from here on: No space left on device\n",
    )


def test_a_pipe_that_does_not_block_gets_all_of_it(tmp_path: Path) -> None:
    # Given what some CI shells hand on
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=writing, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    os.close(writing)
    # When
    with os.fdopen(reading, "rb") as reader:
        lines = reader.read().count(b"\n")
    # Then
    assert (lines, process.wait(60)) == (20_000, 7)
