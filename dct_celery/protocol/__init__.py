"""All that passes between machines: typed, frozen, versioned, and signed. Pure: no clock, file,
socket, Redis or Celery.

    dispatcher ──▶ registry   Announcement                 a run wants the pool
    dispatcher ──▶ ledger     RunSpec, ManifestSummary, chunk offers, CancelOrder, Ownership, the head of the run
    dispatcher ──▶ broker     ChunkHint
    worker     ──▶ registry   WorkerInfo
    worker     ──▶ stream     WorkerReport, records, ChunkEnd

`Door` is the one way in and out. What is written goes through `Door.seal`, what is read through
`Door.unseal`: it verifies first and parses then, and raises `Untrusted` for whatever is not signed
with a key of the pool for just this purpose, or is malformed. Who reads notes that in `Rejects`,
says it once, and goes on with the next.
"""

from __future__ import annotations

#: Raised with every change that an older peer could misread. Dispatcher and worker of different
#: versions refuse each other.
PROTOCOL_VERSION = 6
