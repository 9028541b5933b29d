"""Names that a test process shares with those who observe it from outside."""

from __future__ import annotations

#: Makes a test process write the stacks of all its threads. Projects do not use real-time signals
#: (from 34 on).
STACKS_SIGNAL = 41
#: Variable in the environment of every process that a test process starts: the folder of its fork.
#: Not named DCT_…: those are settings, and a dct that a test starts would refuse an unknown one.
MARK = "_DCT_FORK"
#: Variable with the temporary folder of the machine, in processes that have one of their own.
MACHINE_TMPDIR = "_DCT_TMPDIR"
#: Name of the loader's TMPDIR in the folder that each fork has for itself.
LOADER_TMPDIR = "t"
