"""Test databases of a worker's runs: templates, their clones, and the garbage collector.

`denied` checks a server before its use; `liveness` shows that the owner of its databases lives.
`templates` are built once per schema; `clone_maker` and `clone_pool` copy them for the slots, under
names of `naming` that are never used twice (I6). `server_probe` finds out whether a failure was the
server's (I7). `collector_thread` runs the `garbage_collector` for whatever a crash left behind.
"""
