"""What runs on a build machine around the test processes. No Django and no user code in here (I9).

- `host`: a thread of the worker's main process. It polls the registry, prepares each run (code,
  loader, templates) and supervises it until it is over.
- `slot`: a pool child. It claims chunks, drives one test process over FIFOs and streams its
  records to the store.
- `processes`: test processes, and what they leave behind, as seen from outside.
- `databases`: templates, clones and the garbage collector.
- `health`: the worker, or one slot, claims nothing for a while after failures.
- `folders`: the files in which main process and slots meet, so that neither can block the other.
"""
