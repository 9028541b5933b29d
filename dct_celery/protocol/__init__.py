"""Every message between machines: typed, frozen, versioned and signed.

    dispatcher ──▶ registry   Announcement: a run wants the pool
    dispatcher ──▶ ledger     RunSpec, ManifestSummary, chunk offers, CancelOrder, Ownership,
                              RunSummary, the head of the run
    dispatcher ──▶ broker     ChunkHint
    worker     ──▶ registry   WorkerInfo
    worker     ──▶ stream     WorkerReport, records, ChunkEnd

`Door` is the one way in and out (I11, I12). `Door.seal` signs what is written. `Door.unseal`
verifies what is read, then parses it, and raises `Untrusted` for what is malformed or not signed
for this purpose with a key of the pool. The reader notes that in `Rejects`, which reports each kind
once, and goes on with the next entry. Each record carries its lease, epoch and sequence number
(I2).

Pure: no clock, file, socket, Redis or Celery.
"""

from __future__ import annotations

#: Incremented with every change that an older peer could misread. Dispatcher and worker of
#: different versions refuse each other.
PROTOCOL_VERSION = 7
