"""Bytes that no process of ours wrote, wherever something is read.

They are ignored and reported once, and the run goes on.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dct_celery.protocol import PROTOCOL_VERSION
from tests.security.attacker import Attacker, going_on
from tests.security.test_store_password import assert_honest, mixed
from tests.support.fleet import Fleet

LEASE = {"e": "1", "c": "c1", "a": "1", "f": "1", "w": "build-a@host", "s": "0"}
#: Malformed entries of a run's stream.
ENTRIES: list[dict[str, Any]] = [
    {"x": "y"},
    {"k": ""},
    {"k": "nonsense"},
    {"k": b"\xff\xfe"},
    {"k": "records"},
    {"k": "records", **LEASE},
    {"k": "records", **LEASE, "q": "1", "d": ""},
    {"k": "records", **LEASE, "q": "1", "d": "[]"},
    {"k": "records", **LEASE, "q": "x", "d": "[]"},
    {"k": "records", **LEASE, "q": "-1", "d": "[]"},
    {"k": "records", **LEASE, "q": "1" * 400, "d": "[]"},
    {"k": "records", **LEASE, "q": "1", "d": "null"},
    {"k": "records", **LEASE, "q": "1", "d": "{"},
    {"k": "records", **LEASE, "q": "1", "d": '[{"kind":"TestFinished"}]'},
    {"k": "records", **LEASE, "q": "1", "d": "[" * 100_000},
    {"k": "records", **LEASE, "q": "1", "d": "dct4.000000000000.AAAA.[]"},
    {"k": "records", **LEASE, "q": "1", "d": "dct4..."},
    {"k": "records", **LEASE, "q": "1", "d": b"\xff" * 100},
    {"k": "records", **LEASE, "a": "0", "q": "1", "d": "x"},
    {"k": "records", **LEASE, "f": "none", "q": "1", "d": "x"},
    {"k": "records", **LEASE, "e": "first", "q": "1", "d": "x"},
    {"k": "completed", **LEASE, "q": "0", "d": "{}"},
    {"k": "completed", **LEASE, "q": "0", "d": "3"},
    {"k": "released", **LEASE, "q": "0", "d": '{"why":"crash"}'},
    {"k": "released", **LEASE, "q": "0", "d": "[1,2]"},
    {"k": "claimed"},
    {"k": "claimed", **LEASE, "d": "soon"},
    {"k": "claimed", **LEASE, "s": "many"},
    {"k": "expired", **LEASE, "f": "\u00b2"},
    {"k": "avoided", "e": "1"},
    {"k": "offered", "e": "1", "d": "{}"},
    {"k": "offered", "e": "1", "d": '{"id":"c99","indices":[0],"phase":"isolated","need":"any"}'},
    {"k": "report", "e": "1", "w": "evil", "d": '{"kind":"FailedReport","message":"forged"}'},
    {"k": "host", "e": "1", "w": "evil", "d": '{"state":"failed","message":"forged","detail":""}'},
]
#: Malformed values of the registry.
VALUES: list[bytes | str] = [
    "",
    "nonsense",
    "[]",
    "null",
    '{"epoch": "first"}',
    '{"name":"a@b","host":"h","slots":"many","version":"1","protocol":4,"key_id":"x"}',
    b"\xff\xfe\x00",
    "[" * 60_000,
    "dct4.000000000000.AAAA.{}",
]
_BODY = [
    ["dct4.000000000000.AAAA.{}"],
    {},
    {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
]
_PROPERTIES = {
    "correlation_id": "x", "delivery_mode": 2, "delivery_tag": "x", "body_encoding": "base64",
    "delivery_info": {"exchange": "", "routing_key": "x"},
}  # fmt: skip
_HEADERS = {
    "lang": "py",
    "task": "dct_celery.run_chunk",
    "id": "x",
    "argsrepr": "",
    "kwargsrepr": "{}",
}


def _message(**changes: Any) -> str:
    whole = {
        "body": base64.b64encode(json.dumps(_BODY).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": _HEADERS,
        "properties": _PROPERTIES,
    }
    return json.dumps({**whole, **changes})


#: Malformed messages of the broker.
MESSAGES: list[bytes | str] = [
    "garbage",
    "",
    "[]",
    "null",
    b"\x80\x04\x95",
    _message(body="%%%"),
    _message(properties=None),
    _message(headers=None),
    _message(**{"content-type": "application/x-python-serialize"}),
    _message(body=base64.b64encode(b"[[]").decode()),
    _message(headers={**_HEADERS, "task": "os.system"}),
    _message(),
]


@pytest.fixture(scope="module")
def littered(tmp_path_factory: pytest.TempPathFactory, fleet_store: str) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("littered"), fleet_store) as fleet:
        fleet.worker(DCT_LEASE_SECONDS="2")
        yield fleet


def test_garbage_everywhere_costs_no_verdict_and_ends_no_process(
    littered: Fleet, place: Any
) -> None:
    # Given
    attacker = Attacker(littered)
    running = littered.start(mixed(place))
    attacker.wait_for(running.run, "events")
    rounds = 0

    def litter() -> None:
        nonlocal rounds
        rounds += 1
        if rounds > 3:
            return
        for entry in ENTRIES:
            attacker.client.xadd(attacker.run_key(running.run, "events"), entry)
        for number, value in enumerate(VALUES):
            attacker.announce(f"junk-{number:05}", value, seconds=20)
            attacker.announce(f"junk-{number}@host", value, "workers", seconds=20)
        for message in MESSAGES:
            attacker.client.lpush(f"dct:dct.run.{running.run}", message)

    # When
    with going_on(litter, 0.4):
        finished = running.finish()
    # Then
    assert rounds >= 2
    assert_honest(finished, littered)
    ignored = [line for line in finished.err.splitlines() if "ignored" in line]
    assert ignored, finished.err
    assert len(ignored) == len(set(ignored)), finished.err
    log = littered.workers[0].log.read_text()
    assert "Unrecoverable error" not in log
    assert "Traceback" not in log, log


def test_thousands_of_foreign_entries_starve_no_run(littered: Fleet, place: Any) -> None:
    # Given
    attacker = Attacker(littered)
    base = f"dct:{{{littered.name}}}:{PROTOCOL_VERSION}:runs"
    until_ms = int((time.time() + 60) * 1000)
    pipe = attacker.client.pipeline(transaction=False)
    for number in range(10_000):
        pipe.zadd(base, {f"junk-{number:06}": until_ms})
        pipe.hset(f"{base}:info", f"junk-{number:06}", f"dct4.000000000000.AAAA.{number}")
    pipe.execute()
    # When
    finished = littered.run(mixed(place))
    # Then
    attacker.client.delete(base, f"{base}:info", f"{base}:horizons")
    assert_honest(finished, littered)
