"""The store on Redis or Valkey ≥ 6.2: ledger, registry, blobs and timings.

State changes only inside `lua/*.lua`, one verb each.
"""
