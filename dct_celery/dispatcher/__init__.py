"""The dispatcher: the shell around `core`, which makes all decisions. No Django in here.

`lifecycle` is one run from the command to its report: it uploads the snapshot and opens the run
(`stored_run`), collects the manifest (`collect`), plans, and runs the `event_loop`. `request` is
what the user asked for. The event loop reads the stream, journals it (`journal`), feeds the run
machine and carries out its effects; `worker_reports` and `fleet` keep what is known of workers,
`artifacts` fetches files of tests. `adopt` takes over a run of a dead dispatcher, from a
`run_snapshot` and the journal; `past_run` reads the same without taking the run over, for
`replay` and `bisect`, and `trial` compares two runs.

Invariants: the manifest decides when the run is complete (I1); nothing is acknowledged before it is
journalled (I3); messages are hints and are sent again (I4); what the store has lost is put back
under a new epoch (I2); only signed input counts (I11), and none of it ends the process (I12).
"""
