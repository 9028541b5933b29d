"""The real implementations of the ports: everything that touches a server, a file or a process.

`redisstore` is the store (ledger, registry, blobs, timings), `celeryqueue` the broker and the
worker's Celery app, `databases` the servers that test databases are cloned on, `source` the
project's code on both sides, `embedded` and `local_fleet` the servers and workers that `--local`
starts, `process` and `network` the user's processes and the first contact with a server.

What comes in from the store, the broker or a test process is parsed here, at one door for each
kind, and refused or counted if it does not parse (I12). Errors of the libraries become exceptions
of `errors.py` before they leave this room. Decisions are made elsewhere, in `core`.
"""
