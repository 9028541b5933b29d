"""The app that `celery -A dct_celery worker` finds. No logic."""

from __future__ import annotations

import sys

from dct_celery.bootstrap import make_worker_app
from dct_celery.errors import DctError

try:
    app = make_worker_app()
except DctError as error:
    sys.stderr.write(f"dct: error: {error}\n")
    raise SystemExit(error.exit_code) from None
