"""The store on Redis or Valkey ≥ 6.2: ledger, registry, blobs and timings.

`client` connects and translates redis-py's errors, `checks` and `rights` find out at the start
whether the server can be used, `keys` names every key and its lifetime. `registry` says which
workers and runs of a pool are alive, `ledger` holds one run: its chunks, leases and event stream.
`blobs` holds the code and the timings.

State changes only inside `lua/*.lua`, one verb each, so a verb happens completely or not at all.
There every write of a worker carries a fence, and stale ones are refused and counted (I2). Leases
and liveness are timed by the store's clock alone, which stands still while the store takes no
writes (I5). What is read is verified and parsed by `protocol` before it is used (I11, I12).
"""
