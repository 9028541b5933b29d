"""Reporters: the terminal, JUnit XML, JSON and the folder of artifacts. They decide nothing.

`reporter` passes each event to every reporter, in order; one that fails is named once and left out.
`file_reporters` replaces the reports of an earlier run when a run begins, and writes them as it
goes on and ends. `files` writes a file whole or not at all. `masked` takes secrets and colours out
of all texts before they are shown or written. `terminal/` prints, `junit/` and `json_report` turn a
report into a document.

A red run never becomes a green document, and a test without a verdict is never left out (I1, I7).
"""
