"""The queue of each run: Celery and kombu, and everything that makes them safe to use.

The dispatcher publishes chunk messages with `queue`; a worker runs the app of `app` with the
consumer of `consumer`, which follows the runs of the pool and consumes one queue per run (`names`).
`transports` and `inbound` read every message before Celery does: what is no chunk message of ours
is counted, named once and dropped (I12). `watchdog` restarts a consumer that has stopped consuming,
and `brokerid` tells whether dispatcher and worker are on the same broker.

Messages are hints. They may be lost or doubled at any time (I4); only a claim in the ledger gives
the right to run a chunk.
"""
