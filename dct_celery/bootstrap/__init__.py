"""The composition root: settings in, a wired dispatcher or worker out.

The only package that knows every adapter: `dispatcher` wires `dct run` and `dct attach`, `worker`
the Celery app of a worker, `inspection` the commands that only query the store, `maintenance`
`dct gc` and `dct doctor`. `keys` decides whether a process may run without a signing key (I11), and
`report_files` writes reports for a command line that was refused.

Adapters are imported by the functions that wire them, so that `--help` or a wrong option does not
wait for Celery.
"""

from __future__ import annotations

from dct_celery.bootstrap.dispatcher import attach_run, list_files, run_tests
from dct_celery.bootstrap.inspection import (
    cancel_run,
    status_of_runs,
    status_of_workers,
    watch_runs,
)
from dct_celery.bootstrap.maintenance import collect_garbage, examine
from dct_celery.bootstrap.report_files import report_failure
from dct_celery.bootstrap.worker import make_worker_app

__all__ = [
    "attach_run",
    "cancel_run",
    "collect_garbage",
    "examine",
    "list_files",
    "make_worker_app",
    "report_failure",
    "run_tests",
    "status_of_runs",
    "status_of_workers",
    "watch_runs",
]
