"""One run, from its first offer to its last verdict.

`records` are what a test process reports, `leases` name who may report it, `events` are all facts
and effects. `machine` takes the facts in the order of the stream and decides verdicts, retries and
the end of the run: every entry ends with exactly one disposition (I1), only the holder of a lease
is believed (I2), infrastructure never gives a verdict (I7), and all retries are bounded (I8).
`blame` assigns crashes to tests, `reruns` holds failures back for --reruns, `leaks` collects what
tests left behind. `view` folds the same facts into what people see, `history` into
what ran in which test process.
"""
