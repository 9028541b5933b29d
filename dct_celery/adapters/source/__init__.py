"""The project's code: a snapshot by content hash on the dispatcher's side, a materialised tree on
the worker's.
"""
