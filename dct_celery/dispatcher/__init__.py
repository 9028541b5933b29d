"""The shell around `core`: collects, snapshots, publishes, follows, finishes. Decisions are the run
machine's. No Django.
"""
