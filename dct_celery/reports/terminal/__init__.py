"""What `dct run` prints.

`terminal` is the reporter: it prints lines as events come, and keeps a live line or a heartbeat.
`summary` renders the report at the end. `wording` writes names, numbers and durations; `screen` is
the device: colours, columns, the live line. Nothing that a test printed reaches the terminal raw.
"""
