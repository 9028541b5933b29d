"""The plan: which tests stay together, and which of them go out next.

`timings` turns the seconds of past runs into estimates; `timing_format` is how files hold them.
`planner.atoms` groups the entries that must share a test process; `planner.Planner` cuts chunks
from the atoms as slots ask for them, large ones first and smaller ones towards the end. `limits`
says how long a test or fixture may take. The plan never splits an atom, and hands out each atom
once; what a lost chunk leaves comes back through `Planner.requeue` (I1). Within a chunk, tests run
in canonical order.
"""
