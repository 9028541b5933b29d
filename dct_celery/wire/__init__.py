"""Every message between a worker and the user's process.

`framing` cuts the byte stream of a pipe into payloads; `messages` types and encodes them; `process`
has the names that both sides must share. What does not parse is a `ProtocolError` of that one test
process, never a traceback of ours (I12). The slot numbers each record before it sends it on (I2).

Pure, and standard library alone: the user's process may run another interpreter than the worker, so
nothing here may need more than Python 3.11 has.
"""
