"""The worker's main process: one thread for the worker, and one for each run on it.

`host` polls the registry and starts a `run_supervisor` per run. That has the run prepared
(`preparation`: code, loader, guards, templates), publishes it to the slots, keeps its clone pool
and system checks going, and cleans up. `ended_runs` remembers what is over. A worker that differs
from the dispatcher refuses the run, and its own failure never becomes a verdict (I7, I11).
"""
