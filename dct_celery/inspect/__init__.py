"""What `dct status`, `dct workers`, `dct cancel` and `dct doctor` find out; the CLI prints it.

`status` reads a run from the store: the dispatcher's signed summary, then the newer entries of the
event stream, folded by the same code as in the dispatcher, so that both show the same counts.
`doctor_services` checks store, broker, keys, clocks and workers; `load_project` loads the project;
`doctor_databases` checks its guards and then its servers. Each check is a `Finding`.

Entries that are not signed with our key are counted and ignored (I11, I12). A guard that
refuses a database stops `doctor` before anything is connected to.
"""
