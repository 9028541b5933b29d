"""What protects a fleet and its secrets.

`signing` holds the keys of a pool: every message is signed for one purpose, pool and run (I11).
`guards` looks at the databases that the project has configured, and refuses to run near production.
`masking` removes secrets from everything that leaves a process. `folders` and `files` keep our
files private, replace them atomically, and never remove anything outside the work folder. `outputs`
writes what users have asked for, where they have named it.

Pure except for `folders`, `files`, `outputs`, and the process-wide masker of `masking`.
"""
