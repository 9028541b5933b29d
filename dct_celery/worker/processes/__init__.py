"""Test processes as seen from outside, where no test can interfere (I9).

`test_process` has the loader fork one, talks to it over FIFOs and ends it; `strays` finds and ends
the processes that tests leave, `leaks` reports them, `post_mortem` explains a death. All of it
reads /proc through `proc`.
"""
