"""The same model behind ``anmok serve`` and behind its peers: one machine, one run, one torch, one client.

Every peer has a virtual environment of its own under ``.bench/``, which sees the torch, transformers and numpy of the
interpreter that runs this, so that only the server differs. One that does not install or run is a row that says so.
"""
