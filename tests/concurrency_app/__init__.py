"""A Django app with planted faults of concurrency, each with a sound twin."""
