"""What keeps the tests of one process from harming later tests, or the machine.

`output` captures what tests print, `leaks` finds threads and sockets that they leave,
`process_state` restores what they changed, `private_tree` gives each process the project's folder
for itself, and `tree_watch` says who changed it where that is not possible. `orphans` ends the
processes that outlive their fork, and `lifetime` makes every process end with the one that needs
it.

Nothing here relies on names that a test can patch: what is needed is bound at import. What a test
must not be able to stop (heartbeats, time-outs, kills) is in the worker (I9).
"""
