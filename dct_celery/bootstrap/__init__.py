"""The composition root: settings in, a wired dispatcher or worker out.

The only package that knows every adapter: `dispatcher` wires `dct run` and `dct attach`, `worker`
the Celery app of a worker, `inspection` the commands that only query the store, `maintenance`
`dct gc` and `dct doctor`. `keys` decides whether a process may run without a signing key (I11), and
`report_files` writes reports for a command line that was refused.

Adapters are imported by the functions that wire them, so that `--help` or a wrong option does not
wait for Celery. `worker` imports all of its own at once: its slots are forks, and share what was
imported before.
"""

from __future__ import annotations

import gc


def slow_down_garbage_collector() -> None:
    """For processes of ours, before they import much.

    Nearly all that is made while modules are imported and tests are planned stays, but at Python's
    threshold of 700 objects it is searched for garbage again and again.
    """
    gc.set_threshold(20_000, 10, 10)
