"""What a run has come to, as its store and its dispatcher's journal have it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dct_celery.adapters.redisstore.ledger import RedisLedger, stored_run
from dct_celery.core import codec
from dct_celery.errors import Untrusted
from dct_celery.protocol.door import Door
from dct_celery.protocol.stream import StreamEntry
from dct_celery.security.signing import Keyring, body_of
from tests.support.fleet import Fleet, Running, until


def ledger_of(fleet: Fleet, running: Running) -> RedisLedger:
    """As a process sees it that has the pool's key."""
    door = Door.of_pool(Keyring((fleet.key,)), fleet.name)
    return RedisLedger(
        fleet.client, running.run, door.of_run(running.run, *stored_run(fleet.client, running.run))
    )


def entries(fleet: Fleet, running: Running, kind: str) -> list[StreamEntry]:
    """Those of one kind, by what the store calls it; none of the whole stream may be untrusted."""
    page = ledger_of(fleet, running).read("0", block_ms=0, count=10_000)
    assert not page.rejected, page.rejected
    return [entry for entry in page.entries if entry.fields["k"] == kind]


def chunks(fleet: Fleet, running: Running, kind: str) -> list[str]:
    """The chunk of each entry of this kind."""
    return [entry.fields["c"] for entry in entries(fleet, running, kind)]


def wait_for_records(fleet: Fleet, running: Running) -> None:
    def seen() -> bool:
        assert running.process.poll() is None, running.finish()
        return bool(entries(fleet, running, "records"))

    until(seen, what="a verdict")


@dataclass(frozen=True, slots=True)
class Journalled:
    """An entry that the dispatcher has accepted, with its unverified content."""

    kind: str
    chunk: str
    worker: str
    data: Any


def journalled(journal: Path) -> list[Journalled]:
    """Every entry that was written to its end."""
    lines = journal.read_text().splitlines(keepends=True)[1:] if journal.exists() else []
    rows = [codec.loads(line) for line in lines if line.endswith("\n")]
    return [
        Journalled(row["k"], row.get("c", ""), row.get("w", ""), _said(row.get("d", "")))
        for row in rows
    ]


def _said(text: str) -> Any:
    try:
        return codec.loads(body_of(text))
    except Untrusted:
        return text
