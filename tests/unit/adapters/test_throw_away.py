"""The settings of our own throw-away PostgreSQL are those that users are given in a file."""

from __future__ import annotations

import re
from pathlib import Path

from dct_celery.adapters.embedded.postgres import _SETTINGS

FILE = Path(__file__).parents[3] / "deploy" / "databases" / "postgres.conf"
#: Ours alone: a private server in UTC, whose memory may be small.
OWN = {"timezone"}
#: Of the file alone: room that a private server for one run does not need.
THEIRS = {"max_wal_size", "checkpoint_timeout"}


def test_our_own_server_has_the_settings_of_the_file() -> None:
    # Given
    given = dict(re.findall(r"^(\w+) = (\S+)$", FILE.read_text(), re.MULTILINE))
    # Then
    assert {name: value for name, value in _SETTINGS.items() if name not in OWN} == {
        name: value for name, value in given.items() if name not in THEIRS
    }
