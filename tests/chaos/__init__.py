"""The chaos harness.

Seeded faults in the middle of real runs, and the proof that nothing was lost, doubled or made up.
"""
