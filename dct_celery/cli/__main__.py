"""`python -m dct_celery.cli`, the same as `dct`."""

from __future__ import annotations

from dct_celery.cli.main import main

main()
