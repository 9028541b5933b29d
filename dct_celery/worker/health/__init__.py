"""When a worker or a slot claims nothing for a while, because infrastructure keeps failing.

`circuit_breaker` stops the whole worker after several failures in a row; `slot_backoff` stops one
slot that gets no databases, and limits slots to what a database server has room for. Others run the
chunks meanwhile, so that a broken machine does not use up the bounded re-runs of tests (I7, I8).
"""
