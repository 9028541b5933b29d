"""The ports' real sides: stores, queues, databases, source snapshots, processes and the servers we
bring along.
"""
