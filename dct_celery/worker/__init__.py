"""What runs on a build machine around the test processes: host, slots, loaders, spools. No Django,
no user code.

The worker's main process has one host thread: it keeps the registry, materialises code, starts one
loader per run and has the templates built. Each pool child is a slot: it claims chunks, drives one
test process over FIFOs and streams its records. Main and slots meet in the folder of the run
(`layout.RunFolder`), so neither can block the other.
"""
