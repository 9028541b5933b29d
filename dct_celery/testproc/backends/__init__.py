"""What knows a test framework: `base` is the seam, each package behind it a framework.

Everything above this room (main, loader, session, recorder) knows `base` alone, and finds a backend
by its name: see `dct_celery.core.backends`.
"""
