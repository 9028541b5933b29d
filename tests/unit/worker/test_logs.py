"""What a line of a worker's log is about, and how it looks as JSON."""

from __future__ import annotations

import json
import logging
import sys

from dct_celery.worker import logs
from dct_celery.worker.logs import JsonLines, about


def record(text: str, exc_info: object = None) -> logging.LogRecord:
    made = logging.LogRecord(
        "dct_celery.worker.slot.slot",
        logging.INFO,
        __file__,
        1,
        text,
        None,
        exc_info,  # type: ignore[arg-type]
    )
    made.created, made.msecs = 0.25, 250.0
    assert logs.add_fields(made)
    return made


def test_a_record_says_what_it_is_about() -> None:
    # When
    with about(run="run-one"), about(chunk="c7"):
        inner = record("claimed")
    outer = record("idle")
    # Then
    assert [getattr(inner, name) for name in logs.FIELDS] == ["run-one", "c7", ""]
    assert [getattr(outer, name) for name in logs.FIELDS] == ["", "", ""]


def test_a_line_of_json_has_what_is_known() -> None:
    # Given
    with about(run="run-one"):
        line = record("ready\n")
    # When
    text = JsonLines("build-a@host").format(line)
    # Then
    assert json.loads(text) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "INFO",
        "logger": "dct_celery.worker.slot.slot",
        "message": "ready\n",
        "worker": "build-a@host",
        "process": "MainProcess",
        "run": "run-one",
    }
    assert "\n" not in text


def test_an_exception_is_a_field_of_its_line() -> None:
    # Given
    try:
        raise ValueError("boom")
    except ValueError:
        line = record("failed", sys.exc_info())
    # When
    exception = json.loads(JsonLines().format(line))["exception"]
    # Then
    assert exception.endswith("ValueError: boom")
