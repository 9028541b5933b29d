"""The project's code: from the dispatcher's tree to an identical one on every worker.

The dispatcher takes a `snapshot` (which files belong to the tree, and the hash of each), writes its
`index`, and an `upload` sends the files that the store lacks. A worker materialises the `tree`
under the hash of its index, or proves that its own checkout is equal.

Invariants: the index and every file are proven by hash before use; decompression is bounded by the
size in the index; no path of an index leads out of its folder (I11, I12).
"""
