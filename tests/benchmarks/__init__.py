"""Owns the benchmarks: commands that print figures, `python -m tests.benchmarks.NAME`.

None of them is a timed test.
"""
