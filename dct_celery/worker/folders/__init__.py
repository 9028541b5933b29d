"""The files in which a worker's main process, slots and test processes meet.

`work_folder` has the layout of the worker's folder and of each run in it; `clone_folder` moves the
notes of clones by renames, so that exactly one process owns each and no crash leaves an unknown
database (I6). Only the worker's own user may enter.
"""
