"""The `dct` command: one file per subcommand.

`main` takes stdout and stderr over (`streams`), runs the subcommand, and turns whatever it raises
into one line on stderr and an exit code (I10). A subcommand reads its options (`options`,
`project`), loads the settings, calls `api` or `bootstrap`, and prints what they return. `run` and
`attach` share `session`, which adds a terminal and the signal handlers of `interrupts`.

Nothing is decided here. Celery, Redis and the project are imported late, so that `--help` and a
wrong option answer at once. What others wrote is printed only through `workers.shown`.
"""
