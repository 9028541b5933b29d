"""Decisions about databases, without touching one.

`names` builds names that are never reused (I6), `marks` is the line by which a database of ours is
recognised, `garbage` decides what is dropped: only what has both our name and our mark.
`clone_state` says whether a chunk may run on a slot's clones; `server_fault` tells a failing server
from a failing test (I7); `server_identity` proves that two connections reach the same server;
`usage` sums up what was done, for the report; `vendors` names those that can be cloned.
"""
