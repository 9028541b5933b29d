"""SQLite: a template is a file, and a clone is a copy of it.

`server` is the adapter for all databases of one worker, in one folder on its host. `files` locks
and copies files: the locks serve as liveness and holds, and the kernel ends them with their
process. `state` hashes a database's contents. A mark is a file beside the database, written before
it and removed after it (I6).
"""
