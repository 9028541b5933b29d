"""One pool child of the worker, which runs one chunk after the other.

`slot` takes a message and claims its chunk; `slot_run` has the test process and clones for it;
`chunk_run` drives the process and streams its records, while `lease_keeper` renews the lease and
`deadlines` measures time, both outside the test process (I9). `spool` keeps records on disk until
the dispatcher has journalled them (I3), `artifacts` sends files. Every write carries the lease's
fence and epoch (I2).
"""
