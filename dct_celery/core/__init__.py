"""The pure part: what is decided, never how it is carried out.

`model` has the nouns: manifest, entry, chunk, verdict. `plan` groups entries into atoms (what must
share a process) and cuts chunks from them. `run` is the state machine of one run: events of the
stream go in, verdicts and offers of chunks come out. `databases` decides what a database of ours is
called, what it is marked with, and when it is garbage. `codec` parses everything that another
process wrote (I12).

Time, ids and randomness are arguments: modules here import no clock, environment, file, socket,
thread, logging, Celery, Redis or Django. So every decision can be replayed and tested without a
server. Held here: I1, I7, I8, I10.
"""
