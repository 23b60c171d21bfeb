"""One small language model in ``anmok chat``'s runtime and in its peers: tokens a second, time to the first token.

One machine, one run, one process for each, all loaded before the first is asked, and asked in turn, so that a machine
that drifts drifts for all. Every peer has a virtual environment of its own under ``.bench/``. One that does not install
or run is a row that says so.
"""
