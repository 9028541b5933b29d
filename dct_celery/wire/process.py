"""What a test process and those who look at it from outside must call alike."""

from __future__ import annotations

#: Asks a test process for the stacks of all its threads; real-time signals (from 34 on) are the
#: ones that projects leave alone.
STACKS_SIGNAL = 41
#: Variable that all a test process starts has in its environment: the folder of its fork. Not
#: called DCT_…: those are settings, and are taken from the environment of a dct that a test may
#: start.
MARK = "_DCT_FORK"
