"""Everything that a worker and the user's process say to each other. Pure, and standard library
alone.

The user's process may run another interpreter than the worker, so nothing here may need more than
Python 3.11 has.
"""
